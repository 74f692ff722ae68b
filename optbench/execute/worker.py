"""A worker: one process, one core, one thread, one program at a time.

    python -m optbench.execute.worker --core 0

Reads programs as JSON lines from standard input, writes events and rows as JSON lines to standard output; the driver
stores them. It pins itself before jax or torch is imported, because their thread pools are sized then (and a
vmapped triangular solve can hang on XLA's CPU pool of more than one thread). When standard input closes, the driver
is gone, and the worker exits at once.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import ctypes
import json
import os
import pkgutil
import queue
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {arguments.core})
    # Events go to the real standard output; whatever a library prints goes to standard error.
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(inbox,), daemon=True).start()

    def say(event: str, facts: Mapping[str, Any]) -> None:
        events.write(json.dumps({"event": event, **facts}) + "\n")

    say("ready", {"pid": os.getpid()})
    while True:
        message = inbox.get()
        try:
            say("done", {**work(message, say), "number": message.get("number")})
        except BaseException as error:
            facts = {"status": failure(error), "reason": reason(error), "trace": traceback.format_exc()}
            say("failed", {**facts, "number": message.get("number")})


def listen(inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Read messages until the driver closes the pipe; then end the process at once."""
    for line in sys.stdin:
        inbox.put(json.loads(line))
    os._exit(0)


def work(message: Mapping[str, Any], say: Any) -> dict[str, Any]:
    """Run one program, whose rows are returned; or call a function."""
    if "call" in message["program"]:
        return called(**message["program"])
    import resource

    from optbench import environment
    from optbench.fields import digest
    from optbench.plan import Program
    from optbench.resultfile import encoded
    from optbench.store import Kept, Store

    program, store = Program.of(message["program"]), Store(message["results"])
    framework = program.cells[0].framework
    engine = ENGINES[framework](program.device)
    last = 0.0

    def observe(event: str, facts: Mapping[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if event != "progress" or now - last > 0.2:
            last = now
            say(event, {key: value for key, value in facts.items() if isinstance(value, int | float | str)})

    # Another version of the code or of the framework must not continue from this one's carry.
    code = digest([environment.version("optbench"), environment.commit(), environment.version(framework)])[:8]

    def keep(group: int) -> Kept:
        return store.keep(f"{program.id}-{group}-{code}", held=True)

    peak = engine.watch_memory(program.device)
    how = (program.cells, program.mode, program.device, observe, keep, program.width, program.metrics)
    traces = engine.run(*how, warm=WARM)
    with contextlib.suppress(AttributeError, TypeError):  # another allocator than glibc's
        # Which keeps what is free, a gigabyte after some hundred programs.
        ctypes.CDLL(None).malloc_trim(0)
    facts = environment.facts() | engine.device_facts(program.device) | {"roomy": program.roomy}
    facts["worker_peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if (most := peak()) is not None:
        facts |= {"device_peak_bytes": most, "bytes_per_lane": most / len(program.cells)}
    if program.narrowed:
        facts["planned_width"] = program.planned
    if program.metrics:
        facts["metrics"] = " ".join(metric.key() for metric in program.metrics)
    rows = base64.b64encode(encoded(traces, facts)).decode()
    return {"rows": rows, "cells": len(traces)}


def called(call: str, inputs: Mapping[str, Any], framework: str) -> dict[str, Any]:
    """The result of `module:function` for JSON data, on the CPU, and how long it took."""
    from optbench.engines.measured import Stopwatch

    ENGINES[framework]("cpu")
    if framework == "jax":
        import jax

        jax.config.update("jax_platforms", "cpu")
    function = pkgutil.resolve_name(call)
    with Stopwatch() as watch:
        numbers = function(**inputs)
    return {"numbers": numbers, "wall_seconds": watch.seconds, "cpu_seconds": watch.cpu_seconds}


class Unavailable(Exception):
    """The framework or device of a program is not available."""


def jax_engine(device: str) -> Any:
    """JAX's engine; compiled programs are kept between runs."""
    import jax

    from optbench.environment import cache_folder

    with contextlib.suppress(OSError):  # without a folder to write to nothing is kept
        cache_folder().mkdir(0o700, parents=True, exist_ok=True)  # what others can write there would be run
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    from optbench.engines import jax as engine

    return engine


def torch_engine(device: str) -> Any:
    import torch

    if device == "cpu":
        torch.set_num_threads(1)
    elif device != "gpu" or not torch.cuda.is_available():
        raise Unavailable(f"torch {torch.__version__} sees no {device}")
    from optbench.engines import torch as engine

    return engine


ENGINES = {"jax": jax_engine, "torch": torch_engine}
WARM: dict[Any, Any] = {}
"""Compiled programs of this process."""


OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "can't allocate memory", "Cannot allocate memory")
"""Messages of XLA, CUDA, torch's allocator and the system."""


def failure(error: BaseException) -> str:
    text = f"{type(error).__name__} {error}".lower()
    if isinstance(error, MemoryError) or any(words.lower() in text for words in OUT_OF_MEMORY):
        return "out of memory"
    if isinstance(error, Unavailable) or "unknown backend" in text:
        return "unavailable"
    return "error"


def reason(error: BaseException) -> str:
    """What went wrong, in a line, and where in code that is neither this package's nor an installed one's."""
    from optbench.fields import UserError
    from optbench.origin import is_installed

    here = Path(__file__).parent.parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not is_installed(path := Path(frame.filename).resolve()) and here not in path.parents
    ]
    places = dict.fromkeys((Path(frame.filename).name, frame.lineno, frame.line) for frame in frames)
    where = "; ".join(f"{name} line {line}: {text}" for name, line, text in list(places)[-2:])
    what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    lines = [line.strip() for line in what.splitlines() if line.strip()] or [type(error).__name__]
    # A line that ends with a colon says nothing without the next.
    said = " ".join(lines[: 2 if lines[0].endswith(":") else 1]).rstrip(".:")
    return said[:300] + (f" (in {where})" if where else "")


if __name__ == "__main__":
    main()
