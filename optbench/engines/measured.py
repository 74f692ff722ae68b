"""What is measured of a machine rather than of a cell: once, and kept in the cache folder."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optbench import environment
from optbench.cell import Cell
from optbench.fields import digest

PEAK_FROM = 1e6
"""FLOP of one gradient from which comparing it with matrix products says something."""
SIDES = {"cpu": 1024}
"""Rows of the square matrices that are multiplied on a platform; 4096 where it is an accelerator."""


def remembered(name: str, key: Mapping[str, Any], measure: Callable[[], float]) -> float:
    """What `measure` gave for this key, now or at any time before on this machine."""
    path = environment.cache_folder() / "measured" / f"{name}-{digest(key)}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads(path.read_text())["value"])
    value = measure()
    with contextlib.suppress(OSError):  # a cache that cannot be written is measured again
        write(path, {**key, "value": value})
    return value


def write(path: Path, facts: Mapping[str, Any]) -> None:
    """Whole or not at all: two workers may measure the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(facts, sort_keys=True, indent=1))
    temporary.replace(path)


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


def quickest(run: Callable[[], Any], seconds: float = 0.2, least: int = 3) -> float:
    """The shortest time of a few runs, after one that is not counted."""
    run()
    best, begun, times = float("inf"), time.perf_counter(), 0
    while times < least or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        run()
        best, times = min(best, time.perf_counter() - start), times + 1
    return best
