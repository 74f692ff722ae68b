"""`optbench run` on a terminal: what runs, what is done, how long it will take, the table, what to type next."""

from __future__ import annotations

import json
import math
import shlex
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from optbench.countdown import Countdown
from optbench.execute.order import Order
from optbench.execute.request import Request
from optbench.execute.session import Session
from optbench.execute.tuning import stages
from optbench.fields import UserError
from optbench.record import typed
from optbench.wording import count, number, spoken

if TYPE_CHECKING:
    from optbench.execute.pool import Event
    from optbench.plan import Program
    from optbench.stats import Frame
    from optbench.versus import Try

TOY_NOTE = (
    "Note: quadratics and Rosenbrock are toys. They show how a method behaves (conditioning, curvature, the range "
    "of learning rates), not how it will rank on your network; {real}."
)

SLOW_LOOP = 3.0
"""How many times slower a gradient may be inside a compiled loop before anybody is told."""


def run_in_terminal(request: Request) -> int:
    """Run a request; the exit code is 0 if all cells ran, 1 if one failed or two frameworks part, 130 after Ctrl-C."""
    begun = time.monotonic()
    order = Order.of(request)  # before anything is printed: a message about bad input stands alone
    print(f"optbench: {order.suite.name}, {len(order.cells)} cells", flush=True)
    failures: list[str] = []
    session = None
    try:
        for stage, session in enumerate(stages(order)):
            for note in session.notes if stage == 0 else ():
                print(f"Note: {note}")
            say_plan(session)
            if request.dry_run:
                return say_costs(session)
            failures += compute(session)
    except KeyboardInterrupt:
        print("\nInterrupted. What had finished is stored; the same command goes on from there.", flush=True)
        return 130
    assert session is not None  # there is always a first stage
    for name, why in session.store.passed_over.items():
        print(f"passed over {name} in {session.store.runs}: {why}", file=sys.stderr)
    if order.twinned:
        agreed = close_parity(session, time.monotonic() - begun)
    else:
        close(session, time.monotonic() - begun)
        agreed = True
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures or not agreed else 0


def vet_in_terminal(target: str, framework: str | None) -> int:
    """Check a thing in each framework, a line for each check; 1 if one does not hold."""
    from optbench import catalogue, environment
    from optbench.execute.vet import Vetting, reports

    thing = catalogue.thing(target)
    offered = thing.frameworks()
    if framework is not None and framework not in offered:
        raise UserError(f"{thing.kind} {thing.label()} is in {', '.join(offered)}, not in {framework}.")
    jobs = [Vetting(thing, name) for name in ([framework] if framework else offered)]
    failed = 0
    for job, found in reports(jobs, len(environment.cores()), Request.timeout):
        print(f"{thing.kind} {thing.label()} in {job.framework}")
        for check, holds, sentence in found["findings"]:
            failed += not holds
            lead = f"  {'ok  ' if holds else 'FAIL'}  {check}: "
            print(textwrap.fill(sentence, 100, initial_indent=lead, subsequent_indent=" " * 8))
    print(
        "Every check holds." if not failed else f"{failed} {'check fails' if failed == 1 else 'checks fail'}."
    )
    return 1 if failed else 0


def try_in_terminal(options: Try) -> int:
    """Compare two optimizers: looks go to standard error as they come, the result to standard output."""
    from optbench.versus.play import play

    found = play(options, lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(found.data, indent=2, allow_nan=False) if options.json else f"\n{found}")
    return found.exit_code


def compute(session: Session) -> list[str]:
    """Run what is missing, show it, and give back what failed."""
    failures: list[str] = []
    if session.programs:
        with display(session) as show:
            for event in session.run():
                show(event)
                if event.kind == "failed" and event.program is not None:
                    failures.append(
                        f"{title(event.program)}: {event.facts['status']}: {event.facts['reason']}"
                    )
    return failures


def say_plan(session: Session) -> None:
    """One line: how much is stored, how much there is to do, with what."""
    stored = len(session.stored)
    if outdated := session.outdated:
        print(
            f"{outdated} of the stored cells were computed by other code than this; --again computes them "
            "with this one."
        )
    if session.store.older:
        print(
            f"{session.store.older} rows of an older record format in {session.store.folder} are shown by "
            "`optbench report` and do not count as stored."
        )
    if session.stage:
        print(f"{session.stage}:", flush=True)
    if not session.missing:
        print(
            f"All {stored} cells are stored in {session.store.folder}; nothing to compute (--again recomputes)."
        )
        return
    workers = min(session.order.jobs, len(session.programs))
    print(
        f"{stored} stored, {session.missing} to compute in {len(session.programs)} programs "
        f"on {count(workers, 'worker')} ({session.order.device.kind}).",
        flush=True,
    )


def say_costs(session: Session) -> int:
    """Each program with its lanes, and what all of them take, as planned; exit code 0."""
    for program in session.programs:
        print(f"  {title(program)}: {program.cells[0].steps} steps, {program.mode}")
    seconds = sum(program.cost for program in session.programs) / session.order.jobs
    most = max((program.bytes for program in session.programs), default=0)
    print(
        f"About {seconds / 60:.1f} minutes as planned for {session.order.jobs} workers, a plan that knows no machine; "
        f"about {most / 1e6:.0f} MB for the largest program, beside what a framework takes."
    )
    if session.order.suite.staged:
        print("The second stage runs what the first one chooses.")
    return 0


def title(program: Program) -> str:
    """`mlp / kron, 45 lanes`."""

    cell, lanes = program.cells[0], len(program.cells)
    return f"{cell.task.label()} / {cell.optimizer.label()}, {count(lanes, 'lane')}"


@contextmanager
def display(session: Session) -> Iterator[Any]:
    """Live progress on a terminal, plain lines elsewhere."""
    if sys.stdout.isatty():
        with live(session) as show:
            yield show
    else:
        yield Plain(session)


class Plain:
    """A line for each program that ends, with an estimate of what is left."""

    def __init__(self, session: Session):
        self.done, self.total = 0, len(session.programs)
        self.session = session
        self.countdown = Countdown(session.programs, session.order.jobs)

    def __call__(self, event: Event) -> None:
        """Print a line for an end, a new beginning or a warning."""
        self.countdown.follow(event)
        if event.program is None or not worth_a_line(event):
            return
        if event.kind in ("done", "failed"):
            self.done += 1
        elif event.kind == "halved":
            self.total += event.facts["into"] - 1
        seconds = time.monotonic() - self.countdown.begun
        left = self.countdown.left()
        about = f", about {left:.0f} s left" if left and self.done < self.total else ""
        print(f"[{self.done}/{self.total}] {seconds:5.1f} s  {row(self.session, event)}{about}", flush=True)


def worth_a_line(event: Event) -> bool:
    """Whether an event is an end, a new beginning or a warning."""
    slow = event.kind == "compiled" and event.facts.get("loop_slowdown", 0) > SLOW_LOOP
    return slow or event.kind in ("done", "failed", "halved")


@contextmanager
def live(session: Session) -> Iterator[Any]:
    """A bar over all steps of all lanes, what each worker does, and a row for each finished program."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    countdown = Countdown(session.programs, session.order.jobs)

    class Left(ProgressColumn):
        """rich's own follows the pace of the last half minute, which swings with what happens to run."""

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
    """What one finished program showed, in a line."""
    assert event.program is not None
    name = title(event.program)
    if event.kind == "compiled":
        times = event.facts["loop_slowdown"]
        return f"{name:<44} its gradient is {times:.0f} times slower inside a compiled loop; --lanes loop avoids it"
    if event.kind in ("failed", "halved"):
        again = "; tried again in halves" if event.kind == "halved" else ""
        return f"{name:<44} {event.facts['status']}: {event.facts['reason']}{again}"
    from optbench.stats.outcomes import chosen, final
    from optbench.stats.summary import middle, question_of

    rows = session.store.read(event.facts["path"])
    metric = question_of(rows).selection
    best = chosen(rows)  # as the table chooses
    least, trial = middle(final(best, metric)), best["trial"].iloc[0]
    diverged = int((rows["status"] == "diverged").sum())
    rate = "" if trial != trial else f" at lr {number(trial)}"
    found = f"best {spoken(metric)} {number(least)}{rate}" if least < math.inf else "no learning rate works"
    return (
        f"{name:<44} {found}"
        + (f", {diverged} diverged" if diverged else "")
        + (speed(rows) if session.order.device.platform != "cpu" else "")
    )


def speed(rows: Frame) -> str:
    """`, 120,000 examples/s, 31% of peak`: what a program made of an accelerator."""
    first = rows.iloc[0]
    if not first.get("examples_per_second"):
        return ""
    part = first["peak_fraction"]
    return f", {first['examples_per_second']:,.0f} {first['unit']}/s" + (
        f", {part:.0%} of peak" if part == part else ""
    )


def close(session: Session, seconds: float) -> None:
    """The table, the note and the next command."""
    from optbench.stats.stages import staged_note, with_untuned
    from optbench.stats.summary import as_text, legend, summarise, terminal_width
    from optbench.stats.verdict import verdict as said

    frame, width = session.frame(), terminal_width()
    table = summarise(frame)
    print()
    print(as_text(with_untuned(table, frame)))
    print("\n" + textwrap.fill(said(frame), width))
    print(f"\n{legend(table)}")
    if "stage" in frame:
        print(textwrap.fill(staged_note(frame), width))
    print()
    if table["toy"].any():
        real = (
            "the rows on real data are the others"
            if not table["toy"].all()
            else "add --task mlp for real data"
        )
        print(textwrap.fill(TOY_NOTE.format(real=real), width))
    print(f"{len(frame)} cells in {session.store.folder} ({seconds:.1f} s).")
    print(f"Next: {report_command(session.order.request)}")
    spec = json.loads(frame["spec"].iloc[0])["optimizer"]
    print(f"  or: optbench show {typed(spec, table['optimizer'].iloc[0]).partition('[')[0]}")


def report_command(request: Request) -> str:
    """The report on what a request ran: its tasks, its tuning, and where data and results are."""
    options = {
        "task": ",".join(map(str, request.task)) if request.task else None,
        "tuning": request.tuning,
        "trials": None if request.trials is None else str(request.trials),
        "results": None if request.results == "results" else request.results,
    }
    words = ["optbench", "report", "--suite", str(request.suite)]
    words += [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    return shlex.join(words) + " --fresh" * request.fresh


def close_parity(session: Session, seconds: float) -> bool:
    """How far the frameworks are apart for each optimizer and task; whether none is too far."""
    from optbench.stats.parity import FACTOR, FLOOR, parity

    frame = session.frame()
    table = parity(frame)
    labels = list(dict.fromkeys(table["task"]))
    width = max(map(len, table["optimizer"])) + 1
    print("\n" + " " * width + "".join(f"{heading(label, labels):<16}" for label in labels).rstrip())
    print(f"{'optimizer':<{width}}" + (f"{'apart':<7}{'share':<9}" * len(labels)).rstrip())
    for name, rows in table.groupby("optimizer", sort=False):
        found = {row["task"]: row for row in rows.to_dict("records")}
        print(f"{name:<{width}}" + "".join(f"{verdict(found[label]):<16}" for label in labels).rstrip())
    meaning = (
        "apart: the largest distance of torch's losses from JAX's, relative to the largest loss so far. share: of "
        f"what is allowed, which is at each step {FACTOR:g} times the distance that runs in JAX have reached whose "
        f"parameters are moved by one rounding at the start and after every step, or {FLOOR} roundings of the "
        "loss; above 1 (!) the frameworks differ by more than rounding."
    )
    parted = int((~table["holds"]).sum())
    print("\n" + textwrap.fill(meaning, 100) + f"\n{len(table) - parted} of {len(table)} agree.")
    print(f"{len(frame)} cells in {session.store.folder} ({seconds:.1f} s).")
    return not parted


def heading(label: str, labels: Sequence[str]) -> str:
    """A task's name without its fields, where that says which."""
    name = label.partition("[")[0]
    alone = sum(other.partition("[")[0] == name for other in labels) == 1
    return name if alone else textwrap.shorten(label, 15, placeholder="..")


def verdict(row: dict[str, Any]) -> str:
    """How far apart, and which share of what is allowed that is."""
    if row["missing"]:
        return "failed"
    share = f"{row['worst']:.2f}" if row["holds"] else f"{row['worst']:.0e} !"
    return f"{row['difference']:<7.0e}{share}"
