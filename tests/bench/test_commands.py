"""How long a person waits at the command line."""

import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.apart import CORES
from tests.bench.goals import Waited

OTHERS = 0.1
"""Share of the machine that others may take before a wait is marked as disturbed."""


def children():
    """CPU seconds of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine():
    """CPU seconds of everything on this machine; 0 where it is unknown."""
    stat = Path("/proc/stat")
    return sum(map(int, stat.read_text().split()[1:4])) / os.sysconf("SC_CLK_TCK") if stat.exists() else 0.0


def optbench(*words, **environment):
    """The command, begun on all cores; its lines are read from `stdout`."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES)  # of this process while it begins the other, which inherits it
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "optbench", *words],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "100", **environment},
        )
    finally:
        os.sched_setaffinity(0, own)


def timed(*words, **environment):
    """Seconds to the first row (None where there is none) and to the end; both marked if others computed too."""
    begun, ours, all_of_us, first = time.perf_counter(), children(), machine(), None
    with optbench(*words, **environment) as process:
        for line in process.stdout:
            if first is None and re.match(r"\[1/", line):
                first = time.perf_counter() - begun
    assert process.returncode == 0
    wall, ours = time.perf_counter() - begun, children() - ours
    disturbed = machine() - all_of_us - ours > OTHERS * wall * len(CORES)
    return first and Waited(first, disturbed), Waited(wall, disturbed, ours)


@pytest.mark.parametrize("words", ["--help", "list", "show kron"])
def test_light_command(words, goals):
    """CPU seconds of the whole process, the best of a few."""
    seconds = []
    for _ in range(5):
        before = children()
        with optbench(*words.split()) as process:
            process.communicate()
        assert process.returncode == 0
        seconds.append(children() - before)
    goals.at_most(f"optbench {words}", min(seconds), 0.3, " s of CPU")


def test_quickstart(goals, tmp_path):
    """On an empty cache and an empty store, and again."""
    words = [
        "run",
        "--suite",
        "quickstart",
        "--opt",
        "kron,adam,novograd",
        "--results",
        str(tmp_path / "results"),
    ]
    cold = {"OPTBENCH_CACHE": str(tmp_path / "cache"), "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    first, whole = timed(*words, **cold)
    assert first is not None
    goals.waited("quickstart, cold: the first row", first, 5)
    goals.waited("quickstart, cold", whole, 90)
    nothing, again = timed(*words, **cold)
    assert nothing is None
    goals.waited("quickstart, stored", again, 3)
