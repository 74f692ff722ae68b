"""What is timed: blocks of code, and what belongs to a machine and not to a cell, once, kept in the cache folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optbench import environment
from optbench.cell import Cell
from optbench.fields import digest

PEAK_FROM = 1e6
"""FLOP of one gradient from which it can be compared with matrix products."""
SIDES = {"cpu": 1024}
"""Rows of the square matrices that are multiplied on a platform; 4096 where it is an accelerator."""


@dataclass
class Stopwatch:
    """Sums the wall and CPU seconds of the blocks that it is entered for."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __enter__(self) -> Stopwatch:
        self.begun = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: Any) -> None:
        wall, cpu = self.begun
        self.seconds += time.perf_counter() - wall
        self.cpu_seconds += time.process_time() - cpu

    def facts(self, name: str) -> dict[str, float]:
        return {f"{name}_seconds": self.seconds, f"{name}_cpu_seconds": self.cpu_seconds}


def remembered(name: str, key: Mapping[str, Any], measure: Callable[[], float]) -> float:
    """What `measure` gave for this key, now or at any time before on this machine."""
    path = environment.cache_folder() / "measured" / f"{name}-{digest(key)}.json"
    kept = environment.remembered(path)
    if kept is None:
        environment.remember(path, kept := repr(float(measure())))
    return float(kept)


def peak_facts(
    cell: Cell, device: str, kind: str, multiply: Callable[[int], Callable[[], Any]]
) -> dict[str, Any]:
    """The FLOP/s of a large matrix product in the cell's dtype and precision, for cells of some size.

    `multiply(n)` gives a function that multiplies two n x n matrices and waits for the result.
    """
    if cell.task.flops() < PEAK_FROM:
        return {}
    key = {
        "framework": cell.framework,
        "version": environment.version(cell.framework),
        "device": kind if device != "cpu" else environment.cpu_model(),
        "threads": 0 if device != "cpu" else len(environment.cores()),
        "dtype": cell.dtype,
        "precision": cell.precision,
    }
    side = SIDES.get(device, 4096)
    flops = remembered("peak", key, lambda: 2 * side**3 / quickest(multiply(side)))
    return {"peak_flops_per_second": flops}


def quickest(
    run: Callable[[], Any],
    seconds: float = 0.2,
    least: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The shortest time of at least so many runs and seconds, after one run that is not counted."""
    run()
    best, begun, times = float("inf"), clock(), 0
    while times < least or clock() - begun < seconds:
        start = clock()
        run()
        best, times = min(best, clock() - start), times + 1
    return best
