"""What is shown while a run goes on: a bar on a terminal and in a notebook, lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from optbench.countdown import Countdown
from optbench.execute.session import Session
from optbench.wording import count, number, spoken

if TYPE_CHECKING:
    from optbench.execute.job import Event
    from optbench.plan import Program
    from optbench.stats import Frame

SLOW_LOOP = 3.0
"""A gradient that is more than this many times slower inside a compiled loop gets a line."""


def title(program: Program) -> str:
    return f"{program.cells[0].task.label()} / {program.optimizer}, {count(len(program.cells), 'lane')}"


@contextmanager
def display(session: Session) -> Iterator[Any]:
    if sys.stdout.isatty():
        with live(session) as show:
            yield show
    else:
        yield Plain(session)


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
        if event.kind in ("done", "failed"):
            self.done += 1
        elif event.kind in ("halved", "retried"):
            self.total += event.facts["into"] - 1
        seconds = time.monotonic() - self.countdown.begun
        left = self.countdown.left()
        about = f", about {left:.0f} s left" if left and self.done < self.total else ""
        print(f"[{self.done}/{self.total}] {seconds:5.1f} s  {row(self.session, event)}{about}", flush=True)


def worth_a_line(event: Event) -> bool:
    slow = event.kind == "compiled" and event.facts.get("loop_slowdown", 0) > SLOW_LOOP
    return slow or event.kind in ("done", "failed", "differs", "halved", "retried")


@contextmanager
def live(session: Session) -> Iterator[Any]:
    """A bar over all steps of all lanes, and a row for each finished program."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    countdown = Countdown(session.programs, session.order.jobs, session.to_come)

    class Left(ProgressColumn):
        """rich's own column follows the pace of the last half minute, which varies with the program that runs."""

        def render(self, task: Any) -> Text:
            left = countdown.left()
            return Text(
                "" if left is None else f"left {timedelta(seconds=round(left))}", style="progress.remaining"
            )

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
    best = chosen(rows)  # as the table chooses
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
