"""Runs in this process: the real worker, checkpoints, session and store around an engine of a line of NumPy."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from optbench.engines import lanes
from optbench.engines.lanes import Backend, Engine
from optbench.execute import worker
from optbench.execute.order import Order
from optbench.execute.pool import Event
from optbench.execute.request import Request
from optbench.execute.session import Session
from optbench.protocol import Counts


class Stub:
    """An executor without processes. `ran` counts the steps of each cell; `noise`, if set, spoils every loss."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.evaluations = itertools.count(1)
        """At every twelfth, checkpoints are saved."""
        self.noise: np.random.Generator | None = None
        self.warm: dict[Any, Any] = {}

    def end(self) -> None:
        """Nothing stays."""

    def run(self, programs: Sequence[Any]) -> Iterator[Event[Any]]:
        for program in programs:
            yield self.event(program)

    def event(self, program: Any) -> Event[Any]:
        message = {"program": program.message(), "results": str(self.results)}
        with (
            mock.patch.object(worker, "WARM", self.warm),
            self.engine(program),
            mock.patch.object(lanes.Saves, "due", property(lambda saves: next(self.evaluations) % 12 == 0)),
        ):
            try:
                return Event("done", 0, program, worker.work(message, lambda event, facts: None))
            except Exception as error:  # as the loop of a worker does
                facts = {"status": worker.failure(error), "reason": worker.reason(error), "trace": ""}
                return Event("failed", 0, program, facts)

    def engine(self, program: Any) -> AbstractContextManager[Any]:
        """Puts the line of NumPy in the place of JAX."""
        stub = self

        class Own(Numbers):
            def advance(self, start: int, stop: int) -> np.ndarray:
                for cell in self.inputs.cells:
                    stub.ran[cell.id()] += stop - start
                losses = super().advance(start, stop)
                return losses if stub.noise is None else losses + stub.noise.random(losses.shape)

        engine = Engine(
            dict.fromkeys(("map", "vmap", "loop"), Own),
            lambda cell, platform: contextlib.nullcontext(),
            lambda platform: {"device_kind": "cpu"},
            lambda *_: lambda: None,
        )
        return mock.patch.dict(worker.ENGINES, jax=lambda device: Watched(engine))

    results: Path = Path()


COMPILED: dict[Any, Any] = {}


class Real(Stub):
    """The same around JAX's own engine, whose compiled programs all of them share."""

    def __init__(self) -> None:
        super().__init__()
        self.warm = COMPILED

    def engine(self, program: Any) -> AbstractContextManager[Any]:
        self.ran.update(cell.id() for cell in program.cells)
        return contextlib.nullcontext()


class Watched:
    """An engine as a worker takes it from a module."""

    def __init__(self, engine: Engine):
        self.run = engine.run
        self.device_facts = lambda device: {"device_kind": "cpu"}
        self.watch_memory = lambda device: lambda: 1


class Numbers(Backend):
    """One number for each lane, which falls at a pace of its learning rate; the loss is one more than its square."""

    def put(self, tree: Any) -> Any:
        return tree

    def put_block(self, block: dict[str, Any]) -> None:
        pass

    def start(self) -> None:
        arrays = self.inputs.lane_arrays()
        rates = np.array(
            [cell.optimizer.lane_numbers().get("learning_rate", 0.1) for cell in self.inputs.cells]
        )
        self.pace, self.at = 1 / (1 + rates + arrays["slot"] / 7), 0
        self.number = 2.0 + arrays["slot"].astype(float)
        self.facts |= {"parameters": 1, "parameter_bytes": 8}

    def advance(self, start: int, stop: int) -> np.ndarray:
        losses = []
        for _ in range(start, stop):
            losses.append(1 + self.number**2)
            self.number = self.number * (1 - 0.01 * self.pace)
        self.at = stop
        return np.array(losses)

    def evaluate(self) -> dict[str, np.ndarray]:
        return {"loss": 1 + self.number**2}

    def counts(self) -> Counts:
        return Counts(*(np.full(len(self.number), each) for each in (self.at, 0, 0)))

    def state_bytes(self) -> Sequence[int]:
        return [8] * len(self.number)

    def save(self) -> list[np.ndarray]:
        return [self.number.copy(), np.array([self.at])]

    def restore(self, leaves: list[np.ndarray]) -> None:
        self.number, at = leaves
        self.at = int(at[0])


@functools.cache
def order(folder: Path, **asked: Any) -> Order:
    """Two optimizers at two learning rates and two seeds: eight cells, or with stages twenty."""
    asked = {"task": ("rosenbrock_2",), "opt": ("adam", "sgd"), "trials": 2, "seeds": 2, "steps": 40} | asked
    return Order.of(Request(results=str(folder), jobs=1, **asked))


def session(folder: Path, stub: Stub, **asked: Any) -> Session:
    stub.results = folder
    return Session(order(folder, **asked), stub)
