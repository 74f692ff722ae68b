"""What is the same for the lanes of every framework: inputs, clock, evaluation, early stop, resuming.

A backend knows how to advance all lanes by some steps and to evaluate them; `drive` decides when, keeps
time only while the backend computes, cuts each lane's trace on the host (a lane that diverged or is done
runs on beside the others and changes none of them), and stops when no lane has anything left to do.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from optbench.cell import Cell, Trace
from optbench.engines.progress import Ends, Progress
from optbench.protocol import Counts
from optbench.task import stream

BLOCK = 512
"""Steps whose inputs lie on the device at a time, and the length of the buffer that losses are written to."""
WIDTH = 48
"""Lanes in one vectorised step: 40 or 45 lanes (8 or 9 learning rates, 5 seeds) fill one group, which takes a
quarter less time than two of 32 (quadratics) or as long (Rosenbrock); whole vectors on every machine."""
SAVE_EVERY = 30.0
"""Seconds of computation after which the carry is saved at an evaluation step."""

Observe = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Inputs:
    """What the host gives the lanes of one program: everything that differs between them is here."""

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    """The distinct seeds; a lane's `slot` is the place of its seed."""

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> Inputs:
        """The inputs of cells that share a program."""
        keys = {cell.program_key() for cell in cells}
        if len(keys) != 1:
            raise ValueError(f"{len(keys)} programs in one group of lanes; lanes must share one")
        return cls(tuple(cells), tuple(sorted({cell.seed for cell in cells})))

    @property
    def cell(self) -> Cell:
        """Any of them, for what they share."""
        return self.cells[0]

    def first_draws(self) -> dict[str, Any]:
        """The draws of the first step, whose batch metrics are evaluated on: [seeds, ...]."""
        per_seed = [self.cell.task.draws(seed, 0, 1) for seed in self.seeds]
        return {name: np.stack([draws[name][0] for draws in per_seed]) for name in per_seed[0]}

    def lane_arrays(self) -> dict[str, Any]:
        """Per lane: slot [L], noise seed [L], twin [L], the optimizer's lane numbers [L], parameters [L, ...]."""
        numbers = [cell.optimizer.lane_numbers() for cell in self.cells]
        first = {seed: self.cell.task.init(seed) for seed in self.seeds}
        return {
            "slot": np.array([self.seeds.index(cell.seed) for cell in self.cells], np.int32),
            "noise": np.array([stream(cell.seed, "noise").integers(2**31) for cell in self.cells], np.int32),
            "twin": np.array([cell.twin or 0 for cell in self.cells], np.int32),
            "numbers": {name: np.array([n[name] for n in numbers], np.float64) for name in numbers[0]},
            "params": {
                name: np.stack([first[cell.seed][name] for cell in self.cells])
                for name in first[self.seeds[0]]
            },
        }

    def block(self, index: int) -> dict[str, Any]:
        """Inputs of the steps of one block: schedule factors [BLOCK] and draws [seeds, BLOCK, ...]."""
        start, steps = index * BLOCK, self.cell.steps
        factors = self.cell.schedule.factors(steps)[start : start + BLOCK]
        per_seed = [self.cell.task.draws(seed, start, start + BLOCK) for seed in self.seeds]
        return {
            "factors": np.pad(factors, (0, BLOCK - len(factors))),
            "draws": {name: np.stack([draws[name] for draws in per_seed]) for name in per_seed[0]},
        }


class Backend(Protocol):
    """One framework's way of advancing a group of lanes."""

    facts: dict[str, Any]

    def start(self) -> None:
        """Make the first carry."""
        ...

    def prepare(self, start: int) -> None:
        """Put the inputs of the block that holds this step on the device, so that `advance` need not."""
        ...

    def advance(self, start: int, stop: int) -> np.ndarray:
        """Run the steps start <= t < stop (within one block) of all lanes; losses [stop - start, lanes]."""
        ...

    def evaluate(self) -> dict[str, np.ndarray]:
        """Every metric, [lanes]."""
        ...

    def counts(self) -> Counts:
        """What each lane asked for so far, arrays [lanes]."""
        ...

    def save(self) -> list[np.ndarray]:
        """The carry as arrays."""
        ...

    def restore(self, leaves: list[np.ndarray]) -> None:
        """Go on from a saved carry."""
        ...


class Keep(Protocol):
    """Where a program's carry is kept while it runs."""

    def load(self) -> dict[str, np.ndarray] | None:
        """What was kept, if anything."""
        ...

    def save(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep this, whole or not at all."""
        ...

    def clear(self) -> None:
        """Forget it."""
        ...


class Saves:
    """When the carry of a program was last saved, and which of its groups of lanes have ended since.

    One for all groups of a program, so that a crash costs no more than `SAVE_EVERY` seconds however they are cut.
    """

    def __init__(self) -> None:
        self.at = time.monotonic()
        self.ended: list[tuple[Keep, dict[str, np.ndarray]]] = []

    @property
    def due(self) -> bool:
        """Whether that was long enough ago."""
        return time.monotonic() - self.at > SAVE_EVERY

    def save(self, keep: Keep, arrays: dict[str, np.ndarray]) -> None:
        """Save the groups that have ended, and then this one."""
        for other, its in self.ended:
            other.save(its)
        self.ended.clear()
        keep.save(arrays)
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
    cell = inputs.cell
    saves = saves or Saves()
    backend.start()
    progress = Progress()
    kept = keep.load() if keep else None
    if kept is not None:
        progress, carry = Progress.of(kept)
        backend.restore(carry)
    else:
        look(backend, progress)
    ends = Ends(cell, len(inputs.cells))
    for chunk in progress.losses:
        ends.see(chunk)
    looks = frozenset(cell.task.evaluation_steps(cell.steps))
    for start, stop in () if ends.all_over else chunks(cell, progress.at):
        backend.prepare(start)
        wall, cpu = time.perf_counter(), time.process_time()
        losses = backend.advance(start, stop)
        progress.seconds += time.perf_counter() - wall
        progress.cpu_seconds += time.process_time() - cpu
        progress.losses.append(losses)
        progress.at = stop
        ends.see(losses)
        if stop in looks:
            look(backend, progress)
            if keep and saves.due and stop < cell.steps:
                saves.save(keep, progress.arrays(backend.save()))
        observe("progress", {"steps": stop, "of": cell.steps, "lanes": len(inputs.cells)})
        if ends.all_over:
            break
    if keep and last:
        keep.clear()
    elif keep:
        saves.end(keep, progress.arrays(backend.save()))
    traces = ends.traces(inputs.cells, progress)
    for trace in traces:
        trace.facts |= backend.facts | progress.facts(len(inputs.cells))
    return traces


def chunks(cell: Cell, at: int) -> Iterable[tuple[int, int]]:
    """The spans between evaluation steps and block borders, from step `at` on."""
    borders = {*cell.task.evaluation_steps(cell.steps), *range(0, cell.steps, BLOCK), cell.steps, at}
    points = sorted(point for point in borders if point >= at)
    return itertools.pairwise(points)


def look(backend: Backend, progress: Progress) -> None:
    """Evaluate all lanes, off the clock."""
    begun = time.perf_counter()
    for name, values in backend.evaluate().items():
        progress.evaluations.setdefault(name, []).append(values)
    progress.evaluation_steps.append(progress.at)
    progress.counts_at.append(backend.counts())
    progress.evaluation_seconds += time.perf_counter() - begun
