"""What is the same for the lanes of every framework: inputs, clock, evaluation, early stop, resuming.

A backend knows how to advance all lanes by some steps and to evaluate them; `drive` decides when, keeps
time only while the backend computes, cuts each lane's trace on the host (a lane that diverged or is done
runs on beside the others and changes none of them), and stops when no lane has anything left to do.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from optbench.core import Cell, Counts, Status, Trace, stream

BLOCK = 512
"""Steps whose inputs lie on the device at a time, and the length of the buffer that losses are written to."""
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


@dataclass
class Progress:
    """What the host knows of a group of lanes between chunks."""

    at: int = 0
    losses: list[np.ndarray] = field(default_factory=list)
    evaluation_steps: list[int] = field(default_factory=list)
    evaluations: dict[str, list[np.ndarray]] = field(default_factory=dict)
    counts_at: list[Counts] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    evaluation_seconds: float = 0.0

    def arrays(self, carry: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Everything, for saving."""
        return {
            "scalars": np.array([self.at, self.seconds, self.cpu_seconds, self.evaluation_seconds]),
            "losses": np.concatenate(self.losses),
            "evaluation_steps": np.array(self.evaluation_steps),
            "counts": np.array([list(counts) for counts in self.counts_at]),
            **{f"metric/{name}": np.stack(values) for name, values in self.evaluations.items()},
            **{f"carry/{i:04d}": leaf for i, leaf in enumerate(carry)},
        }

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> tuple[Progress, list[np.ndarray]]:
        """The saved progress and carry."""
        at, seconds, cpu, evaluation = arrays["scalars"]
        metrics = {key[7:]: list(value) for key, value in arrays.items() if key.startswith("metric/")}
        carry = [arrays[key] for key in sorted(arrays) if key.startswith("carry/")]
        counts = [Counts(*row) for row in arrays["counts"]]
        steps = [int(step) for step in arrays["evaluation_steps"]]
        return cls(int(at), [arrays["losses"]], steps, metrics, counts, seconds, cpu, evaluation), carry


def drive(inputs: Inputs, backend: Backend, observe: Observe, keep: Keep | None = None) -> list[Trace]:
    """Run a group of lanes to the end, or until none has anything left to do."""
    cell = inputs.cell
    backend.start()
    progress = Progress()
    kept = keep.load() if keep else None
    if kept is not None:
        progress, carry = Progress.of(kept)
        backend.restore(carry)
    else:
        look(backend, progress)
    saved = time.monotonic()
    ends = Ends(cell, len(inputs.cells))
    for chunk in progress.losses:
        ends.see(chunk)
    looks = frozenset(cell.task.evaluation_steps(cell.steps))
    for start, stop in chunks(cell, progress.at):
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
            if keep and time.monotonic() - saved > SAVE_EVERY and stop < cell.steps:
                keep.save(progress.arrays(backend.save()))
                saved = time.monotonic()
        observe("progress", {"steps": stop, "of": cell.steps, "lanes": len(inputs.cells)})
        if ends.all_over:
            break
    traces = ends.traces(inputs.cells, progress)
    for trace in traces:
        trace.facts |= backend.facts | {
            "lanes": len(inputs.cells),
            "program_seconds": progress.seconds,
            "program_cpu_seconds": progress.cpu_seconds,
            "evaluation_seconds": progress.evaluation_seconds,
            "program_steps": progress.at,
        }
    if keep:
        keep.clear()
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


class Ends:
    """Where each lane ends: decided from its own losses only, so the same in any company."""

    def __init__(self, cell: Cell, lanes: int):
        finals = [target for target in cell.task.targets() if target.final and target.metric == "loss"]
        self.target = finals[-1].value if finals else -np.inf
        self.ceiling = cell.task.ceiling
        self.seen = 0
        self.at: list[int | None] = [None] * lanes
        self.status = [Status.DONE] * lanes
        self.reason = [""] * lanes

    @property
    def all_over(self) -> bool:
        """Whether nothing that any lane still does will be recorded."""
        return None not in self.at

    def see(self, losses: np.ndarray) -> None:
        """Look at the next losses of all lanes, [steps, lanes]."""
        # All lanes at once: one lane at a time costs more than a small task's whole chunk.
        bad = ~(np.abs(losses) <= self.ceiling)
        hits = bad | (losses <= self.target)
        for lane in np.flatnonzero(hits.any(axis=0)):
            if self.at[lane] is None:
                first = int(np.argmax(hits[:, lane]))
                self.at[lane] = self.seen + first
                self.status[lane] = Status.DIVERGED if bad[first, lane] else Status.REACHED
                self.reason[lane] = f"loss {losses[first, lane]:.3g} at step {self.at[lane]}"
        self.seen += len(losses)

    def traces(self, cells: Sequence[Cell], progress: Progress) -> list[Trace]:
        """Each lane's part of what the group showed, cut where the lane ended."""
        losses = np.concatenate(progress.losses)
        evaluations = {name: np.stack(values) for name, values in progress.evaluations.items()}
        made = []
        for lane, (cell, at) in enumerate(zip(cells, self.at, strict=True)):
            stop = len(losses) if at is None else at + 1
            steps = [step for step in progress.evaluation_steps if at is None or step <= at]
            trace = Trace(
                cell,
                self.status[lane],
                self.reason[lane],
                losses[:stop, lane].copy(),
                np.array(steps, np.int32),
                {name: values[: len(steps), lane] for name, values in evaluations.items()},
                Counts(*(int(np.asarray(c)[lane]) for c in progress.counts_at[len(steps) - 1])),
            )
            made.append(trace)
        return made
