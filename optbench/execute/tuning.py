"""A run in stages: trials first; then, with seeds that chose nothing, what won.

The second stage depends on nothing but what the first one stored, so an interrupted run goes on where it was, and a
run that is stored computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from optbench.execute.request import Request
from optbench.execute.session import Session
from optbench.optimizer import Optimizer
from optbench.task import Task

if TYPE_CHECKING:
    import pandas as pd


def stages(request: Request) -> Iterator[Session]:
    """The sessions of a run, each to be run before the next is asked for; the last one has the whole frame."""
    first, suite = Session(request), request.asked()
    if not suite.staged:
        yield first
        return
    told = f"{suite.trials} trials ({suite.tuning}) of each optimizer, and each untuned"
    first.stage = f"Stage 1 of 2, choosing: {told}"
    yield first
    yield Reporting(request, first)


class Reporting(Session):
    """The winners of a first stage with fresh seeds."""

    stage = "Stage 2 of 2, reporting: what won, with seeds that chose nothing"

    def __init__(self, request: Request, first: Session):
        self.chosen = first.frame()
        super().__init__(request, request.asked().reporting(winners(request, self.chosen)))

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Both stages, each row with its own."""
        return in_stages(self.request, self.chosen, super().frame())

    def frame(self, curves: bool = True) -> pd.DataFrame:
        """The rows of both stages."""
        return self.rows if curves else self.rows.drop(columns="losses")


def in_stages(request: Request, *frames: pd.DataFrame) -> pd.DataFrame:
    """The rows of a request with their stages."""
    from optbench.stats.stages import staged

    suite = request.asked()
    return staged(frames, suite.optimizers, suite.tuning, suite.trials)


def winners(request: Request, chosen: pd.DataFrame) -> dict[tuple[Task, Optimizer], Optimizer]:
    """For each task and optimizer of a request, the optimizer at the trial that the first stage chose."""
    from optbench.stats.stages import winning

    suite = request.asked()
    found = winning(in_stages(request, chosen))
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
