"""A run in stages: trials first; then the winners on fresh seeds.

The second stage depends only on what the first one stored, so an interrupted run continues where it was, and a
run that is stored computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optbench.execute.order import Order
from optbench.execute.session import Session, executor_of
from optbench.optimizer import Optimizer
from optbench.suite import Asked, Suite

if TYPE_CHECKING:
    import pandas as pd


def stages(order: Order) -> Iterator[Session]:
    """The sessions of a run, each to be run before the next is taken; the last one has the frame of all stages."""
    suite = order.suite
    if not suite.staged or not order.cells:  # a shard may have nothing to do
        yield Session(order)
        return
    first = Choosing(order, executor := executor_of(order, stay=True))
    kind = {"quasi": "quasi-random"}.get(suite.tuning, suite.tuning)
    toys = f" ({suite.toy_trials} on toys)" if suite.toy_trials else ""
    first.stage = (
        f"Stage 1 of 2 (tuning): {suite.trials} {kind} trials per optimizer{toys}, plus its defaults"
    )
    try:
        yield first
        yield Reporting(first)
    finally:
        executor.end()


class Choosing(Session):
    """The trials of an order, and the untuned optimizers on fresh seeds."""

    @property
    def to_come(self) -> float:
        """What the winners' steps take on fresh seeds; their programs are compiled by then."""
        order, of = self.order, {(cell.task, cell.optimizer) for cell in self.order.cells}
        winners = {each: each[-1] for each in order.suite.asked() if (each[0], each[-1]) in of}
        return sum(program.stepping for program in order.reporting(winners).planned)


class Reporting(Session):
    """The winners of a first stage on fresh seeds."""

    stage = "Stage 2 of 2 (reporting): winners on fresh seeds"

    def __init__(self, first: Session):
        self.chosen = first.frame()
        winning = winners(first.order.suite, self.chosen)
        super().__init__(first.order.reporting(winning), first.executor)

    def frame(self) -> pd.DataFrame:
        return in_stages(self.order.suite, self.chosen, super().frame())


def in_stages(suite: Suite, *frames: pd.DataFrame) -> pd.DataFrame:
    from optbench.stats.stages import staged

    return staged(frames, suite.optimizers, suite)


def winners(suite: Suite, chosen: pd.DataFrame) -> dict[Asked, Optimizer]:
    """For each task, setting and optimizer of a suite, or of a shard, the optimizer at the trial that was chosen."""
    from optbench.stats.stages import KEYS, winning

    by = [KEYS.index(name) for name in ("task", "schedule", "steps", "optimizer")]
    places = {tuple(key[i] for i in by): place for key, place in winning(in_stages(suite, chosen)).items()}
    found: dict[Asked, Optimizer] = {}
    for asked in suite.asked():
        task, (schedule, steps), optimizer = asked
        key = (task.label(), schedule.label(), str(steps), optimizer.label())
        if key in places:
            fits = (None, places[key])
            found[asked] = next(trial.at for trial in suite.trials_of(optimizer) if trial.place in fits)
    return found
