"""What is shown while a run goes on: a bar on a terminal and in a notebook, lines elsewhere, and the remaining time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from optbench.execute.session import Session
from optbench.tuning import FRESH
from optbench.wording import count, number, spoken

if TYPE_CHECKING:
    from optbench.execute.job import Event
    from optbench.plan import Program
    from optbench.stats import Frame

SLOW_LOOP = 3.0
"""A gradient that is more than this many times slower inside a compiled loop gets a line."""
BELIEVED = 0.05
"""The share of the planned cost that must be done until the measured pace counts as much as the plan."""


class Countdown:
    """Follows the events of a pool; `cost`, `done` and `to_come`, a later stage, are in CPU seconds as planned."""

    def __init__(self, programs: Sequence[Program], jobs: int, to_come: float, clock=time.monotonic):
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


def title(program: Program) -> str:
    return f"{program.cells[0].task.label()} / {program.optimizer}, {count(len(program.cells), 'lane')}"


class Plain:
    """A line for each finished program, with an estimate of the time left."""

    def __init__(self, session: Session):
        self.done, self.total = 0, len(session.programs)
        self.session = session
        self.countdown = Countdown(session.programs, session.order.jobs, session.to_come)

    def __call__(self, event: Event) -> None:
        self.countdown.follow(event)
        if event.program is None or not worth_a_line(event):
            return
        self.done += event.kind in ("done", "failed")
        self.total += event.facts["into"] - 1 if event.kind in ("halved", "retried") else 0
        seconds = time.monotonic() - self.countdown.begun
        left = self.countdown.left()
        about = f", about {left:.0f} s left" if left and self.done < self.total else ""
        print(f"[{self.done}/{self.total}] {seconds:5.1f} s  {row(self.session, event)}{about}", flush=True)


def worth_a_line(event: Event) -> bool:
    slow = event.kind == "compiled" and event.facts.get("loop_slowdown", 0) > SLOW_LOOP
    return slow or event.kind in ("done", "failed", "differs", "halved", "retried")


@contextmanager
def live(session: Session) -> Iterator[Callable[[Event], None]]:
    """A bar over all steps of all lanes, and a row for each finished program."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    countdown = Countdown(session.programs, session.order.jobs, session.to_come)

    class Left(ProgressColumn):
        """rich's own column follows the pace of the last half minute, which varies with the program that runs."""

        def render(self, task: Any) -> Text:
            left = countdown.left()
            text = "" if left is None else f"left {timedelta(seconds=round(left))}"
            return Text(text, style="progress.remaining")

    console = Console(highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn(), Left())
    with Progress(*columns, console=console, transient=True) as progress:
        overall = progress.add_task("all", total=countdown.cost)

        def show(event: Event) -> None:
            countdown.follow(event)
            if event.program is None:
                return
            if worth_a_line(event):
                console.print(row(session, event), markup=False, soft_wrap=True)
            if event.kind in ("compiled", "progress"):
                progress.update(overall, description=title(event.program)[:44])
            progress.update(overall, total=countdown.cost, completed=countdown.done)

        yield show


def row(session: Session, event: Event) -> str:
    """One line about a finished, failed or slow program."""
    assert event.program is not None
    name = title(event.program)
    if event.kind == "compiled":
        times = event.facts["loop_slowdown"]
        return f"{name:<44} its gradient is {times:.0f} times slower inside a compiled loop; --lanes loop avoids it"
    if event.kind in ("failed", "differs", "halved", "retried"):
        again = {"halved": "; retried in two halves", "retried": "; retried"}.get(event.kind, "")
        return f"{name:<44} {event.facts['status']}: {event.facts['reason']}{again}"
    from optbench.stats.curves import middle
    from optbench.stats.outcomes import chosen, final
    from optbench.stats.settings import question_of

    rows = session.store.read(event.facts["path"])
    metric = question_of(rows).selection
    early = rows[rows["seed"] < FRESH]
    best = chosen(rows if early.empty else early)  # as the table chooses, which fresh seeds only report
    least, trial = middle(final(best, metric)), best["trial"].iloc[0]
    rate = "" if trial is None or trial != trial else f" at lr {number(trial)}"
    parts = [f"best {spoken(metric)} {number(least)}{rate}" if least < math.inf else "no learning rate works"]
    if diverged := int((rows["status"] == "diverged").sum()):
        parts.append(f"{diverged} diverged")
    if session.order.device.platform != "cpu":
        parts += speed(rows)
    return f"{name:<44} {', '.join(parts)}"


def speed(rows: Frame) -> list[str]:
    """`120,000 examples/s` and `31% of peak`, on an accelerator."""
    first = rows.iloc[0]
    if not first.get("examples_per_second"):
        return []
    part, rate = first["peak_fraction"], f"{first['examples_per_second']:,.0f} {first['unit']}/s"
    return [rate, f"{part:.0%} of peak"] if part == part else [rate]
