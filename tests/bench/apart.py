"""Contestants in a process of their own: what hangs on a process's environment, or runs on another core."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Self
from unittest import mock

from optbench.cell import Cell
from optbench.execute.pool import Place
from tests.bench.clock import Contestant, clock

CORES = [int(core) for core in os.environ.get("OPTBENCH_TEST_CORES", "0").split(",")]
"""What the machine has; the process that runs the tests is pinned to the first."""

MADE: dict[str, Contestant] = {}
"""In such a process, its contestants."""


class Apart:
    """A process that is pinned and told what a worker's is told."""

    def __init__(self, number: int = 0, roomy: bool = False):
        self.pool = ProcessPoolExecutor(1, get_context("spawn"), pin, (CORES[number % len(CORES)],))
        with mock.patch.dict(os.environ, Place("cpu", number, roomy).environment()):
            self.pool.submit(os.getpid).result()  # the process starts here

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def contestant(self, name: str, cells: Sequence[Cell]) -> Contestant:
        """One of `baselines`, made and called over there."""
        made = Contestant(lambda: None, *self.pool.submit(make, name, cells).result())

        def call() -> Any:
            with clock.off():
                losses, seconds = self.go(name).result()
            clock.add(seconds)
            return losses

        return made._replace(call=call)

    def go(self, name: str) -> Future[tuple[Any, float]]:
        """Begin a call of a contestant; what it gives, and its CPU seconds."""
        return self.pool.submit(go, name)


def pin(core: int) -> None:
    """To a core, before jax is imported."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def make(name: str, cells: Sequence[Cell]) -> tuple[float, float]:
    """Over there: make a contestant; its work and bytes."""
    from tests.bench import baselines

    MADE[name] = getattr(baselines, name)(cells)
    return MADE[name].work, MADE[name].bytes


def go(name: str) -> tuple[Any, float]:
    """Over there: call a contestant."""
    begun = clock()
    return MADE[name].call(), clock() - begun
