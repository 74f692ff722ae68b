"""The remaining time of a run: at first as planned, soon at the measured pace."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optbench.execute.job import Event
    from optbench.plan import Program

BELIEVED = 0.05
"""The share of the planned cost that must be done until the measured pace counts as much as the plan."""


class Countdown:
    """Follows the events of a pool; `cost`, `done` and `to_come`, a later stage, are in CPU seconds as planned."""

    def __init__(
        self, programs: Sequence[Program], jobs: int, to_come: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ):  # fmt: skip
        self.jobs, self.to_come, self.clock = jobs, to_come, clock
        self.cost = sum(program.cost for program in programs)
        self.believed = BELIEVED * self.cost
        self.finished = 0.0
        self.running: dict[int, float] = {}
        """What each worker has done of its current program."""
        self.begun = self.heard = clock()

    @property
    def done(self) -> float:
        """The part of the cost that is done, running programs included."""
        return self.finished + sum(self.running.values())

    def follow(self, event: Event) -> None:
        program = event.program
        if program is None:
            return
        if event.kind == "compiled":
            self.running[event.worker] = program.compiling
        elif event.kind == "progress":
            share = event.facts["steps"] / event.facts["of"]
            self.running[event.worker] = program.compiling + share * program.stepping
        elif event.kind in ("halved", "retried"):  # what one of them compiles is done again in the others
            self.running.pop(event.worker, None)
            self.cost += (event.facts["into"] - 1) * program.compiling
        elif event.kind in ("done", "failed"):
            self.running.pop(event.worker, None)
            self.finished += program.cost
        self.heard = self.clock()

    def left(self) -> float | None:
        """Seconds; None while nothing is done. Between two events it goes down and stays above zero."""
        if not self.done:
            return None
        pace = (self.believed + (self.heard - self.begun) * self.jobs) / (self.believed + self.done)
        seconds = (max(0.0, self.cost - self.done) + self.to_come) * pace / self.jobs
        return seconds * math.exp((self.heard - self.clock()) / seconds) if seconds else 0.0
