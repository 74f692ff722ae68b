"""Contestants in a process of their own, with an environment of its own or on another core."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from unittest import mock

from optbench.execute.pool import Place
from tests.bench.clock import Contestant, clock

CORES = [int(core) for core in os.environ.get("OPTBENCH_TEST_CORES", "0").split(",")]
"""Of the machine; the process that runs the tests is pinned to one of them."""

CONTESTANTS: dict[str, Contestant] = {}
"""In such a process."""


class Apart:
    """A pinned process with the environment of a worker."""

    def __init__(self, number=0, roomy=False):
        self.pool = ProcessPoolExecutor(1, get_context("spawn"), pin, (CORES[number % len(CORES)],))
        with mock.patch.dict(os.environ, Place("cpu", number, roomy).environment()):
            self.pool.submit(os.getpid).result()  # the process starts here

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.shutdown()

    def contestant(self, name, cells):
        """One of `baselines`, made and called in that process."""

        def call():
            with clock.off():
                losses, seconds = self.go(name).result()
            clock.elsewhere += seconds
            return losses

        return Contestant(call, *self.pool.submit(make, name, cells).result())

    def go(self, name):
        """Begin a call of a contestant: a future of its result and its CPU seconds."""
        return self.pool.submit(go, name)


def pin(core):
    """To a core, before jax is imported."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def make(name, cells):
    """In that process: make a contestant; its work and bytes."""
    from tests.bench import baselines

    CONTESTANTS[name] = getattr(baselines, name)(cells)
    return CONTESTANTS[name][1:]


def go(name):
    """In that process: call a contestant."""
    begun = clock()
    return CONTESTANTS[name].call(), clock() - begun
