"""What is the same for the lanes of every framework: inputs, clock, evaluation, early stopping, resuming.

A backend advances all lanes by some steps and evaluates them. `drive` decides when, keeps time only while
the backend steps, cuts each lane's trace on the host (a lane that diverged or is done runs on beside the others and
changes none of them), and stops when no lane has anything left to do.
"""

from __future__ import annotations

import itertools
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from optbench.cell import Cell, Trace
from optbench.engines.measured import peak_facts
from optbench.engines.progress import Progress
from optbench.metrics import Metric
from optbench.protocol import Counts
from optbench.task import stream

BLOCK = 512
"""Steps whose inputs lie on the device at a time, and the length of the buffer that losses are written to."""
WIDTH = 48
"""Lanes in one vectorised step: 40 or 45 lanes (8 or 9 learning rates, 5 seeds) fill one group, which takes a
quarter less time than two of 32 (quadratics) or as long (Rosenbrock); full vectors on every machine."""
SIDE_BY_SIDE = ("vmap", "ensemble")
"""The modes in which all lanes of a group take a step at once, at a fixed width."""
WARM, WARM_BYTES = 24, 5e7
"""Compiled programs that a worker keeps, and how large their arrays may be, for the next stage or look of a run. One
holds about 20 MB beside its arrays."""
SAVE_EVERY = 30.0
"""Seconds of computation after which the carry is saved at an evaluation step."""

Observe = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Inputs:
    """What the host gives the lanes of one program: everything that differs between them is here."""

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    """The distinct seeds; a lane's `slot` is the index of its seed."""

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> Inputs:
        keys = {cell.program_key() for cell in cells}
        if len(keys) != 1:
            raise ValueError(f"{len(keys)} programs in one group of lanes; lanes must share one")
        return cls(tuple(cells), tuple(sorted({cell.seed for cell in cells})))

    @property
    def cell(self) -> Cell:
        """Any of them, for what they share."""
        return self.cells[0]

    def draws(self, start: int, stop: int) -> dict[str, Any]:
        """[seeds, stop - start, ...]."""
        per_seed = [self.cell.task.draws(seed, start, stop) for seed in self.seeds]
        return {name: np.stack([draws[name] for draws in per_seed]) for name in per_seed[0]}

    def lane_arrays(self) -> dict[str, Any]:
        """Per lane: slot [L], noise seed [L], twin [L], the optimizer's lane numbers [L], parameters [L, ...]."""
        numbers = [cell.optimizer.lane_numbers() for cell in self.cells]
        made = {seed: self.cell.task.init(seed) for seed in self.seeds}
        first = [made[cell.seed] for cell in self.cells]
        return {
            "slot": np.array([self.seeds.index(cell.seed) for cell in self.cells], np.int32),
            "noise": np.array([stream(cell.seed, "noise").integers(2**31) for cell in self.cells], np.int32),
            "twin": np.array([cell.twin or 0 for cell in self.cells], np.int32),
            "numbers": {name: np.array([n[name] for n in numbers], np.float64) for name in numbers[0]},
            "params": {name: np.stack([params[name] for params in first]) for name in first[0]},
        }

    def block(self, index: int) -> dict[str, Any]:
        """Inputs of the steps of one block: schedule factors [BLOCK] and draws [seeds, BLOCK, ...]."""
        start, stop = index * BLOCK, min((index + 1) * BLOCK, self.cell.steps)
        rest = BLOCK - (stop - start)
        factors = self.cell.schedule.factors(self.cell.steps)[start:stop]
        draws = {
            name: np.pad(table, [(0, 0), (0, rest), *[(0, 0)] * (table.ndim - 2)])
            for name, table in self.draws(start, stop).items()
        }
        return {"factors": np.pad(factors, (0, rest)), "draws": draws}


class Backend(ABC):
    """One framework's way of advancing a group of lanes."""

    def __init__(
        self, inputs: Inputs, mode: str, device: Any, width: int = WIDTH, metrics: Sequence[Metric] = ()
    ):
        self.inputs, self.mode, self.device, self.width, self.metrics = inputs, mode, device, width, metrics
        self.facts: dict[str, Any] = {"mode": mode} | ({"width": width} if mode in SIDE_BY_SIDE else {})
        self.data = self.put(inputs.cell.task.data())
        self.load(inputs)

    def fits(self, cells: int, seeds: int) -> bool:
        """Whether so many lanes with so many different seeds can be loaded."""
        return False

    def load(self, inputs: Inputs) -> None:
        """Take the inputs of another group of lanes of the same program."""
        self.inputs, self.block_index = inputs, -1
        # Metrics are evaluated on the batch of the first step: [seeds, ...].
        first = {name: table[:, 0] for name, table in inputs.draws(0, 1).items()} if self.metrics else {}
        self.first_draws = self.put(first)

    def prepare(self, start: int) -> None:
        """Put the inputs of the block that holds this step on the device, so that `advance` need not."""
        if start // BLOCK != self.block_index:
            self.block_index = start // BLOCK
            self.put_block(self.inputs.block(self.block_index))

    @abstractmethod
    def put(self, tree: Any) -> Any:
        """On the device, with floating-point numbers in the cell's dtype."""

    @abstractmethod
    def put_block(self, block: dict[str, Any]) -> None:
        """Put the inputs of a block on the device, and wait for them."""

    @abstractmethod
    def start(self) -> None:
        """Make the first carry."""

    @abstractmethod
    def advance(self, start: int, stop: int) -> np.ndarray:
        """Run the steps start <= t < stop of all lanes, within the block that is prepared.

        The losses, [stop - start, lanes], are the one thing that crosses to the host.
        """

    @abstractmethod
    def evaluate(self) -> dict[str, np.ndarray]:
        """Every metric, [lanes]."""

    @abstractmethod
    def counts(self) -> Counts:
        """Gradients, Hessian-vector products and values so far, arrays [lanes]."""

    @abstractmethod
    def state_bytes(self) -> Sequence[int]:
        """Bytes of the optimizer's state, [lanes]."""

    @abstractmethod
    def save(self) -> list[np.ndarray]:
        """The carry as arrays."""

    @abstractmethod
    def restore(self, leaves: list[np.ndarray]) -> None:
        """Continue from a saved carry; `start` was called before."""


class Keep(Protocol):
    """Where a program's carry is kept while it runs: all of it or nothing."""

    def load(self) -> dict[str, np.ndarray] | None: ...
    def save(self, arrays: Mapping[str, np.ndarray]) -> None: ...
    def clear(self) -> None: ...


class Saves:
    """When the carry of a program was last saved, and which of its groups of lanes have ended since.

    One for all groups of a program, so that a crash costs no more than `SAVE_EVERY` seconds however they are cut.
    """

    def __init__(self) -> None:
        self.at = time.monotonic()
        self.ended: list[tuple[Keep, dict[str, np.ndarray]]] = []

    @property
    def due(self) -> bool:
        return time.monotonic() - self.at > SAVE_EVERY

    def save(self, keep: Keep, arrays: dict[str, np.ndarray]) -> None:
        """Save the groups that have ended, and then this one."""
        for ended, its_arrays in [*self.ended, (keep, arrays)]:
            ended.save(its_arrays)
        self.ended.clear()
        self.at = time.monotonic()

    def end(self, keep: Keep, arrays: dict[str, np.ndarray]) -> None:
        """A group has ended, and others follow."""
        if self.due:
            self.save(keep, arrays)
        else:
            self.ended.append((keep, arrays))


def drive(
    inputs: Inputs,
    backend: Backend,
    observe: Observe,
    keep: Keep | None = None,
    saves: Saves | None = None,
    last: bool = True,
) -> list[Trace]:
    """Run a group of lanes to the end, or until none has anything left to do; `last`: no group follows."""
    cell, lanes = inputs.cell, len(inputs.cells)
    saves = saves or Saves()
    backend.start()
    progress = Progress(inputs.cells)
    kept = keep.load() if keep else None
    if kept is not None:
        backend.restore(progress.restore(kept))
    else:
        progress.evaluate(backend)
    evaluated = frozenset(cell.task.evaluation_steps(cell.steps))
    for start, stop in chunks(cell, progress.at):
        if None not in progress.ends:
            break
        backend.prepare(start)
        with progress.stepping:
            losses = backend.advance(start, stop)
        progress.add(losses)
        if stop in evaluated:
            progress.evaluate(backend)
            if keep and saves.due and stop < cell.steps:
                saves.save(keep, progress.arrays(backend.save()))
        observe("progress", {"steps": stop, "of": cell.steps, "lanes": lanes})
    if keep and last:
        keep.clear()
    elif keep:
        saves.end(keep, progress.arrays(backend.save()))
    return progress.traces(backend.facts)


def chunks(cell: Cell, at: int) -> Iterable[tuple[int, int]]:
    """The spans between evaluation steps and block borders, from step `at` on."""
    borders = {*cell.task.evaluation_steps(cell.steps), *range(0, cell.steps, BLOCK), cell.steps, at}
    return itertools.pairwise(sorted(border for border in borders if border >= at))


@dataclass(frozen=True)
class Engine:
    """A framework's backends, and what else differs between frameworks."""

    backends: Mapping[str, type[Backend]]
    """By mode."""
    device: Callable[[Cell, str], AbstractContextManager[Any]]
    """In it programs run on a platform's device in a cell's dtype and precision; gives the device."""
    facts: Callable[[str], Mapping[str, Any]]
    """What kind of device a platform has."""
    product: Callable[[int, str, Any], Callable[[], Any]]
    """For n, a dtype and a device: a function that multiplies two n x n matrices and waits for the result."""

    def run(
        self,
        cells: Sequence[Cell],
        mode: str,
        device: str = "cpu",
        observe: Observe = lambda event, facts: None,
        keep: Callable[[int], Keep | None] = lambda group: None,
        width: int = WIDTH,
        metrics: Sequence[Metric] = (),
        warm: dict[Any, Backend] | None = None,
    ) -> list[Trace]:
        """Run cells that share a program; returns their traces in the same order.

        A small compiled program is left in `warm`, and is taken from it where it fits other lanes.
        """
        size = width if mode in SIDE_BY_SIDE else len(cells)
        groups = [Inputs.of(cells[i : i + size]) for i in range(0, len(cells), size)]
        most = max(groups, key=lambda inputs: len(inputs.seeds))
        traces: list[Trace] = []
        saves, warm = Saves(), {} if warm is None else warm
        key = (cells[0].compiled_key(), mode, device, width, *(metric.key() for metric in metrics))
        with self.device(cells[0], device) as chosen:
            backend = warm.pop(key, None)
            if backend is None or not backend.fits(min(size, len(cells)), len(most.seeds)):
                backend = self.backends[mode](most, mode, chosen, width, metrics)
            if backend.facts.get("program_bytes", math.inf) <= WARM_BYTES:
                warm[key] = backend
                for oldest in list(warm)[:-WARM]:
                    del warm[oldest]
            observe("compiled", backend.facts)
            for number, inputs in enumerate(groups):
                if backend.inputs is not inputs:
                    backend.load(inputs)
                made = drive(inputs, backend, observe, keep(number), saves, number == len(groups) - 1)
                for trace, state_bytes in zip(made, backend.state_bytes(), strict=True):
                    trace.facts["state_bytes"] = state_bytes
                traces += made
            kind = self.facts(device)["device_kind"]
            peak = peak_facts(cells[0], device, kind, lambda n: self.product(n, cells[0].dtype, chosen))
        for trace in traces:
            trace.facts |= peak
        return traces
