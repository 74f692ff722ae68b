"""What the host knows of a group of lanes between chunks: losses, evaluations, seconds, and where each lane ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optbench.cell import Cell, Status, Trace
from optbench.protocol import Counts


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

    def facts(self, lanes: int) -> dict[str, Any]:
        """What the record says of the clock."""
        return {
            "lanes": lanes,
            "program_seconds": self.seconds,
            "program_cpu_seconds": self.cpu_seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "program_steps": self.at,
        }

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


class Ends:
    """Where each lane ends: decided from its own losses only, so the same in any company."""

    def __init__(self, cell: Cell, lanes: int):
        final = cell.task.final_loss()
        self.target = -np.inf if final is None else final
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
