"""A run in stages: trials first; then, with seeds that chose nothing, what won.

The second stage depends on nothing but what the first one stored, so an interrupted run goes on where it was, and a
run that is stored computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from optbench.execute.order import Order
from optbench.execute.session import Session
from optbench.optimizer import Optimizer
from optbench.suite import Suite
from optbench.task import Task

if TYPE_CHECKING:
    import pandas as pd


def stages(order: Order) -> Iterator[Session]:
    """The sessions of a run, each to be run before the next is asked for; the last one has the whole frame."""
    first, suite = Session(order), order.suite
    if not suite.staged:
        yield first
        return
    trials = f"{suite.trials} trials ({suite.tuning}) of each optimizer, and each untuned"
    first.stage = f"Stage 1 of 2, choosing: {trials}"
    yield first
    yield Reporting(first)


class Reporting(Session):
    """The winners of a first stage with fresh seeds."""

    stage = "Stage 2 of 2, reporting: what won, with seeds that chose nothing"

    def __init__(self, first: Session):
        self.chosen = first.frame()
        super().__init__(first.order.reporting(winners(first.order.suite, self.chosen)))

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Both stages, each row with its own."""
        return in_stages(self.order.suite, self.chosen, super().frame())

    def frame(self) -> pd.DataFrame:
        """The rows of both stages."""
        return self.rows


def in_stages(suite: Suite, *frames: pd.DataFrame) -> pd.DataFrame:
    """The rows of a suite with their stages."""
    from optbench.stats.stages import staged

    return staged(frames, suite.optimizers, suite.tuning, suite.trials)


def winners(suite: Suite, chosen: pd.DataFrame) -> dict[tuple[Task, Optimizer], Optimizer]:
    """For each task and optimizer of a suite, the optimizer at the trial that the first stage chose."""
    from optbench.stats.stages import winning

    found = winning(in_stages(suite, chosen))
    places = {(each[0], each[-1]): place for each, place in found.items()}
    return {
        (task, optimizer): next(
            trial.at
            for trial in suite.trials_of(optimizer)
            if trial.place in (None, places[task.label(), optimizer.label()])
        )
        for task in suite.tasks
        for optimizer in suite.optimizers
    }
