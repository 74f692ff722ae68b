"""A task at one setting, with its optimizers in the order of every figure and table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from optbench.cell import FINISHED
from optbench.record import Question
from optbench.report.look import order
from optbench.stats import Frame
from optbench.stats.curves import curve
from optbench.stats.outcomes import at_best
from optbench.stats.settings import kept_apart, labels, question_of
from optbench.stats.tunability import sensitivity


@dataclass(frozen=True)
class Problem:
    """A task at one setting."""

    name: str
    question: Question
    rows: Frame
    outcomes: Frame
    """Of the rows."""
    chosen: Frame
    """Of those at the trial that is reported."""

    @cached_property
    def optimizers(self) -> dict[str, Frame]:
        return by_optimizer(self.rows, order(self.rows["optimizer"]))

    @cached_property
    def best(self) -> dict[str, Frame]:
        """The rows of each optimizer at its best learning rate."""
        return by_optimizer(self.rows[self.rows.index.isin(self.chosen.index)], self.optimizers)

    @cached_property
    def sensitivities(self) -> dict[str, Frame]:
        parts = by_optimizer(self.outcomes, self.optimizers)
        return {name: sensitivity(found) for name, found in parts.items()}

    @cached_property
    def curves(self) -> dict[str, dict[str, Frame]]:
        """The drawn metrics against steps at the best learning rate, for each metric and optimizer."""
        metrics = {*self.metrics, self.question.selection}
        return {metric: {name: curve(rows, metric) for name, rows in self.best.items()} for metric in metrics}

    @property
    def training(self) -> str:
        """The training metric: the loss, or that on all training data where steps see batches; of what is imported with
        neither, the reported one."""
        known = [name for name in ("loss", "train_loss") if has(self.rows, f"evaluation.{name}")]
        return known[0] if known else self.question.score

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics with curves: that of training, and that of the targets."""
        return tuple(dict.fromkeys((self.training, self.question.first.metric)))

    @cached_property
    def failed(self) -> set[str]:
        """The optimizers that finished at no learning rate, so that none of these is the best."""
        return {*self.rows["optimizer"]} - {*self.rows.loc[self.rows["status"].isin(FINISHED), "optimizer"]}


def problems(frame: Frame, found: Frame) -> list[Problem]:
    """From rows and their outcomes."""
    names, best = labels(frame), at_best(found)
    return [
        Problem(
            names[rows.index[0]], question_of(rows), rows,
            *(each[each.index.isin(rows.index)] for each in (found, best)),
        )
        for rows in kept_apart(frame)
    ]  # fmt: skip


def by_optimizer(rows: Frame, names: Iterable[str]) -> dict[str, Frame]:
    """The rows of each optimizer; one grouping costs less than many selections."""
    parts = dict(iter(rows.groupby("optimizer", sort=False)))
    return {name: parts.get(name, rows.iloc[:0]) for name in names}


def lost(rows: Frame) -> Frame:
    """The rows of lanes that diverged or failed."""
    return rows[~rows["status"].isin(FINISHED)]


def has(rows: Frame, column: str) -> bool:
    return column in rows and bool(rows[column].notna().any())
