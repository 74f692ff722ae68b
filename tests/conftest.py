"""One core for the process that runs the tests, before jax is imported; and compiled programs kept between runs.

XLA sizes its thread pool then, and a vmapped triangular solve can deadlock on a pool of more than one thread; the
workers of optbench pin themselves in the same way.
"""

import os
import sys
from pathlib import Path

from optbench.environment import compile_quickly

if hasattr(os, "sched_getaffinity"):
    os.environ.setdefault("OPTBENCH_TEST_CORES", ",".join(map(str, sorted(os.sched_getaffinity(0)))))


def pytest_configure(config):
    """Pin a process that runs tests, not one that only distributes them."""
    distributes = not hasattr(config, "workerinput") and config.getoption("numprocesses", None)
    if distributes or not hasattr(os, "sched_setaffinity"):
        return
    cores = [int(core) for core in os.environ["OPTBENCH_TEST_CORES"].split(",")]
    # A session without workers takes any core: of several sessions not all share the first.
    number = os.environ.get("PYTEST_XDIST_WORKER", f"gw{os.getpid()}").removeprefix("gw")
    os.sched_setaffinity(0, {cores[int(number) % len(cores)]})


cache = Path(__file__).parent.parent / ".cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("OPTBENCH_CACHE", str(cache.parent))
if not any("bench" in Path(word).parts for word in sys.argv):  # which measures what users compile
    compile_quickly()
