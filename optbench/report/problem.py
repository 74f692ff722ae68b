"""A task at one setting, with its optimizers in the order in which every figure and table lists them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from optbench.cell import FINISHED
from optbench.record import Question
from optbench.report.look import order
from optbench.stats import Frame
from optbench.stats.curves import curve
from optbench.stats.leaders import sensitivity
from optbench.stats.outcomes import chosen
from optbench.stats.settings import kept_apart, labels, question_of


@dataclass(frozen=True)
class Problem:
    """What is drawn and written about together."""

    name: str
    question: Question
    rows: Frame

    @cached_property
    def optimizers(self) -> dict[str, Frame]:
        """The rows of each optimizer."""
        return {name: self.rows[self.rows["optimizer"] == name] for name in order(self.rows["optimizer"])}

    @cached_property
    def best(self) -> dict[str, Frame]:
        """The rows of each optimizer at its best learning rate."""
        return {name: chosen(rows) for name, rows in self.optimizers.items()}

    @cached_property
    def sensitivities(self) -> dict[str, Frame]:
        """Final value against learning rate, for each optimizer."""
        return {name: sensitivity(rows, self.question) for name, rows in self.optimizers.items()}

    @cached_property
    def drawn(self) -> dict[str, dict[str, Frame]]:
        """The curves that were asked for so far, by metric."""
        return {}

    def curves(self, metric: str) -> dict[str, Frame]:
        """A metric against steps at the best learning rate, for each optimizer."""
        if metric not in self.drawn:
            self.drawn[metric] = {name: curve(rows, metric) for name, rows in self.best.items()}
        return self.drawn[metric]

    @property
    def training(self) -> str:
        """The metric that shows training: the loss, or that on all training data where steps see batches."""
        return (
            "loss"
            if "evaluation.loss" in self.rows and self.rows["evaluation.loss"].notna().any()
            else "train_loss"
        )

    @property
    def metrics(self) -> tuple[str, ...]:
        """What curves are drawn of: training, and what targets are set on where that is something else."""
        return tuple(dict.fromkeys((self.training, self.question.first.metric)))

    @cached_property
    def never(self) -> set[str]:
        """The optimizers that finished at no learning rate, so that none of these is the best."""
        ends = {name: rows["status"].isin(FINISHED) for name, rows in self.optimizers.items()}
        return {name for name, finished in ends.items() if not finished.any()}

    def lost(self, name: str) -> str:
        """`2 of 5 diverged` among the best learning rate's lanes, or ''."""
        counts = self.best[name]["status"].value_counts(sort=False)
        bad = {status: n for status, n in counts.items() if status not in FINISHED}
        total = len(self.best[name])
        return ", ".join(f"{n} of {total} {status}" for status, n in sorted(bad.items()))


def problems(frame: Frame) -> list[Problem]:
    """The problems of a frame, in its order."""
    names = labels(frame)
    return [Problem(names[rows.index[0]], question_of(rows), rows) for rows in kept_apart(frame)]
