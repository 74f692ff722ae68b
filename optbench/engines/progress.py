"""What the host knows of a group of lanes between chunks: losses, evaluations, seconds, and where each lane ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optbench.cell import Cell, Status, Trace
from optbench.engines.measured import Stopwatch
from optbench.protocol import Counts


class Progress:
    """What a group of lanes has shown. A lane's end depends on its own losses only: it is the same in any company."""

    def __init__(self, cells: Sequence[Cell]):
        task = cells[0].task
        final = task.final_loss()
        self.cells, self.ceiling = cells, task.ceiling
        self.target = -np.inf if final is None else final
        self.at = 0
        """Steps that were run."""
        self.losses: list[np.ndarray] = []
        self.ends: list[int | None] = [None] * len(cells)
        """The step of each lane's last loss, where it ended before the others."""
        self.status = [Status.DONE] * len(cells)
        self.reason = [""] * len(cells)
        self.evaluation_steps: list[int] = []
        self.evaluations: dict[str, list[np.ndarray]] = {}
        self.counts_at: list[Counts] = []
        self.stepping, self.evaluating = Stopwatch(), Stopwatch()

    def add(self, losses: np.ndarray) -> None:
        """Take the next losses of all lanes, [steps, lanes]."""
        # All lanes at once: one lane at a time costs more than a small task's chunk.
        bad = ~(np.abs(losses) <= self.ceiling)
        hits = bad | (losses <= self.target)
        for lane in np.flatnonzero(hits.any(axis=0)):
            if self.ends[lane] is None:
                first = int(np.argmax(hits[:, lane]))
                self.ends[lane] = self.at + first
                self.status[lane] = Status.DIVERGED if bad[first, lane] else Status.REACHED
                self.reason[lane] = f"loss {losses[first, lane]:.3g} at step {self.at + first}"
        self.losses.append(losses)
        self.at += len(losses)

    def evaluate(self, backend: Any) -> None:
        """Evaluate all lanes, off the clock."""
        with self.evaluating:
            for name, values in backend.evaluate().items():
                self.evaluations.setdefault(name, []).append(values)
            self.evaluation_steps.append(self.at)
            self.counts_at.append(backend.counts())

    def arrays(self, carry: list[np.ndarray]) -> dict[str, np.ndarray]:
        stepping, evaluating = self.stepping, self.evaluating
        return {
            "scalars": np.array([self.at, stepping.seconds, stepping.cpu_seconds, evaluating.seconds]),
            "losses": np.concatenate(self.losses),
            "evaluation_steps": np.array(self.evaluation_steps),
            "counts": np.array([list(counts) for counts in self.counts_at]),
            **{f"metric/{name}": np.stack(values) for name, values in self.evaluations.items()},
            **{f"carry/{i:04d}": leaf for i, leaf in enumerate(carry)},
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Continue from what `arrays` gave; returns the carry."""
        _, seconds, cpu_seconds, evaluating = arrays["scalars"]
        self.add(arrays["losses"])
        self.stepping, self.evaluating = Stopwatch(seconds, cpu_seconds), Stopwatch(evaluating)
        self.evaluation_steps = arrays["evaluation_steps"].tolist()
        self.counts_at = [Counts(*row) for row in arrays["counts"]]
        self.evaluations = {key[7:]: list(arrays[key]) for key in arrays if key.startswith("metric/")}
        return [arrays[key] for key in sorted(arrays) if key.startswith("carry/")]

    def traces(self, facts: Mapping[str, Any]) -> list[Trace]:
        """Each lane's part of what the group showed, cut where the lane ended, with these facts and the clock's."""
        clock = {"evaluation_seconds": self.evaluating.seconds, "program_steps": self.at}
        facts = {**facts, "lanes": len(self.cells), **self.stepping.facts("program"), **clock}
        losses = np.concatenate(self.losses)
        evaluations = {name: np.stack(values) for name, values in self.evaluations.items()}
        traces = []
        for lane, (cell, end) in enumerate(zip(self.cells, self.ends, strict=True)):
            steps = [step for step in self.evaluation_steps if end is None or step <= end]
            traces.append(
                Trace(
                    cell,
                    self.status[lane],
                    self.reason[lane],
                    losses[: None if end is None else end + 1, lane].copy(),
                    np.array(steps, np.int32),
                    {name: values[: len(steps), lane] for name, values in evaluations.items()},
                    Counts(*(int(np.asarray(c)[lane]) for c in self.counts_at[len(steps) - 1])),
                    dict(facts),
                )
            )
        return traces
