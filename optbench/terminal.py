"""`optbench run`, `try` and `vet` on a terminal: plan, progress, table and the next command."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optbench.execute.order import Order
from optbench.execute.request import Request
from optbench.execute.session import Session, stages
from optbench.fields import UserError
from optbench.live import Plain, live, title
from optbench.plan import seconds_of
from optbench.record import typed
from optbench.wording import command_line, count, listed, terminal_width

if TYPE_CHECKING:
    from optbench.plan import Program
    from optbench.stats import Frame
    from optbench.versus import Try

TOY_NOTE = (
    "Note: toys ({toys}) show how a method behaves (conditioning, curvature, the range of learning rates), not how it "
    "will rank on your network; {real}."
)


def run_in_terminal(request: Request) -> tuple[int, dict[str, Any]]:
    """Run a request and print its table.

    Returns the exit code (0: all cells ran; 1: a cell failed or two frameworks differ; 130: Ctrl-C) and what
    `--json` prints.
    """
    start = time.monotonic()
    order = Order.of(request)  # before anything is printed: a message about bad input stands alone
    shard = f", shard {request.shard}" if request.shard else ""
    print(f"optbench: {order.suite.name}{shard}, {count(len(order.cells), 'cell')}", flush=True)
    facts: dict[str, Any] = {"suite": order.suite.name, "results": request.results, "cells": len(order.cells)}
    facts |= {} if request.shard is None else {"shard": request.shard}
    if not order.cells:
        print(f"Shard {request.shard} has nothing to do: the run has fewer programs than shards.")
        return 0, facts | {"failed": []}
    failed: list[dict[str, Any]] = []
    session = None
    try:
        for stage, session in enumerate(stages(order)):
            for note in session.notes if stage == 0 else ():
                print(f"Note: {note}")
            print_plan(session)
            if request.dry_run:
                return 0, facts | print_costs(session)
            failed += compute(session)
    except KeyboardInterrupt:
        print("\nInterrupted. Finished programs are stored; run the same command to continue.", flush=True)
        return 130, facts | {"interrupted": True}
    assert session is not None  # there is always a first stage
    for name, why in session.store.passed_over.items():
        print(f"skipped unreadable file {name} in {session.store.runs}: {why}", file=sys.stderr)
    frame = session.frame()
    shown = print_table(session, frame)
    print(f"{count(len(frame), 'cell')} in {session.store.folder} ({time.monotonic() - start:.1f} s).")
    if request.shard is not None:
        merged = f"optbench merge FOLDER ... --into {request.results}"
        print(f"This is shard {request.shard}. Next, of all shards: {merged}")
    else:
        spec = json.loads(frame["spec"].iloc[0])["optimizer"]
        name = typed(spec, frame["optimizer"].iloc[0]).partition("[")[0]
        print(f"Next: {shown['next']}\n  or: optbench show {name}")
    for each in failed:
        text = "failed: {task} / {optimizer}, {0}: {status}: {reason}"
        print(text.format(count(each["lanes"], "lane"), **each), file=sys.stderr)
    return int(bool(failed)), facts | {"failed": failed} | shown


def try_in_terminal(options: Try) -> tuple[int, dict[str, Any]]:
    """Compare two optimizers: looks go to standard error as they come, the result to standard output."""
    from optbench.versus.play import play

    found = play(options, lambda line: print(line, file=sys.stderr, flush=True))
    print(f"\n{found}")
    return found.exit_code, found.data


def vet_in_terminal(
    target: str,
    framework: str | None,
    full: bool = False,
    only: Sequence[str] | None = None,
    junit: str | None = None,
) -> tuple[int, dict[str, Any]]:
    """Check an optimizer or a task in each framework; exit code 1 if a check fails."""
    from optbench import catalogue, environment
    from optbench.conformance import findings
    from optbench.execute.vet import Vetting, reports
    from optbench.optimizer import Optimizer
    from optbench.testing import offered

    thing = catalogue.thing(target)
    here = offered(thing)
    if framework is not None and framework not in here:
        raise UserError(f"{thing.kind} {thing.label()} is in {', '.join(here)} here, not in {framework}.")
    if only and not full:
        raise UserError(
            "--only chooses among the checks of --full. Write: optbench vet TARGET --full --only use"
        )
    if full and not isinstance(thing, Optimizer):
        raise UserError(f"--full checks optimizers; {thing.label()} is a {thing.kind}. Leave --full out.")
    workers, frameworks = len(environment.cores()), (framework,) if framework else here
    checks: list[dict[str, Any]] = []

    def show(framework: str, check: str, holds: bool | None, sentence: str) -> None:
        checks.append({"framework": framework, "check": check, "holds": holds, "sentence": sentence})
        lead = f"  {STATES[holds]:4}  {check}: "
        text = textwrap.fill(sentence, terminal_width(), initial_indent=lead, subsequent_indent=" " * 8)
        print(text, flush=True)

    if not only:
        for job, report in reports([Vetting(thing, name) for name in frameworks], workers, Request.timeout):
            print(f"{thing.kind} {thing.label()} in {job.framework}")
            for check, holds, sentence in report["findings"]:
                show(job.framework, check, holds, sentence)
    if full and isinstance(thing, Optimizer):
        headed = ""
        for job, finding in findings([thing], only or (), frameworks, workers):
            if job.framework != headed:
                print(f"{thing.kind} {thing.label()} in {job.framework}, as it is used")
            headed = job.framework
            show(job.framework, *finding)
    if junit is not None:
        from optbench.gate.output import write_cases

        cases = [
            (f"optbench.{c['framework']}", c["check"], [(kind, c["sentence"]) for kind in MARKS[c["holds"]]])
            for c in checks
        ]
        write_cases(Path(junit), f"optbench vet {thing.label()}", cases)
    failed, apart = (sum(check["holds"] is state for check in checks) for state in (False, None))
    said = f"{failed} {'check fails' if failed == 1 else 'checks fail'}." if failed else "Every check holds."
    print(said + f" {apart} do not apply." * bool(apart))
    return int(failed > 0), {"thing": thing.label(), "kind": thing.kind, "checks": checks}


def merge_in_terminal(
    folders: Sequence[str] | None, into: str, bits: int | None
) -> tuple[int, dict[str, Any]]:
    """Merge results folders; exit code 1 if bits differ or a file was left out."""
    from optbench.merge import merge

    if not folders or not into:
        raise UserError(
            "merge needs results folders and one that they go to. Write: optbench merge A B --into R"
        )
    merged = merge(folders, into, bits)
    for path, why in merged.skipped.items():
        print(f"skipped unreadable file {path}: {why}", file=sys.stderr)
    for each in merged.conflicts[:SHOWN]:
        why = f"other {', '.join(each['differing'])}" if each["differing"] else "nothing recorded explains it"
        where = f"in {' and '.join(each['folders'])} ({why})"
        print("other bits: {task} / {optimizer}, seed {seed},".format(**each), where, file=sys.stderr)
    cells = count(len(merged.conflicts), "cell")
    if merged.conflicts:
        print(f"{cells} with other bits; the newest row of each counts.", file=sys.stderr)
    compacted = f"; {count(merged.compacted, 'small file')} compacted" if merged.compacted else ""
    print(f"{count(merged.copied, 'file')} copied into {into}, {merged.present} already there{compacted}.")
    return int(bool(merged.skipped or merged.conflicts)), {"into": into, **vars(merged)}


SHOWN = 10
"""Conflicts that are printed one by one."""
STATES = {True: "ok", False: "FAIL", None: "n/a"}
MARKS = {True: (), False: ("failure",), None: ("skipped",)}
"""What JUnit says of a check."""


def compute(session: Session) -> list[dict[str, Any]]:
    """Run what is missing with live progress; returns what failed."""
    failed: list[dict[str, Any]] = []
    if session.programs:
        with live(session) if sys.stdout.isatty() else nullcontext(Plain(session)) as show:
            for event in session.run():
                show(event)
                if event.kind in ("failed", "differs") and event.program is not None:
                    why = {key: event.facts[key] for key in ("status", "reason")}
                    failed.append(named(event.program) | why)
    return failed


def print_plan(session: Session) -> None:
    """How many cells are stored, and how many are to be computed with how many workers."""
    folder, stored = session.store.folder, len(session.stored)
    if outdated := session.outdated:
        print(f"{outdated} of the stored cells are of other code than this; --again recomputes them.")
    if session.store.older:
        print(
            f"{session.store.older} rows of an older record format in {folder} are shown by `optbench report` and do "
            "not count as stored."
        )
    if session.stage:
        print(f"{session.stage}:", flush=True)
    if session.missing:
        programs = count(len(session.programs), "program")
        workers = count(min(session.order.jobs, len(session.programs)), "worker")
        where = f"in {programs} on {workers} ({session.order.device.kind})"
        print(f"{stored} stored, {session.missing} to compute {where}.", flush=True)
    else:
        kept = "The cell is" if stored == 1 else f"All {stored} cells are"
        print(f"{kept} stored in {folder}; nothing to compute (--again recomputes).")


def print_costs(session: Session) -> dict[str, Any]:
    """What `--dry-run` shows: programs, minutes and memory as planned."""
    programs = []
    several = len({program.cells[0].schedule for program in session.programs}) > 1
    for program in session.programs:
        steps, schedule = program.cells[0].steps, f", {program.cells[0].schedule.label()}" * several
        print(f"  {title(program)}: {steps} steps, {program.mode}{schedule}")
        plan = {"steps": steps, "mode": program.mode, "cost": program.cost, "bytes": program.bytes}
        programs.append(named(program) | plan)
    seconds = seconds_of(session.programs) + session.to_come
    minutes = seconds / session.order.jobs / 60
    most = max((program.bytes for program in session.programs), default=0)
    said = (
        f"About {minutes:.1f} minutes on {count(session.order.jobs, 'worker')} of a typical machine; about "
        f"{most / 1e6:.0f} MB for the largest program, plus the framework itself."
    )
    if session.order.suite.staged:
        said += " This includes the second stage, which depends on what the first one chooses."
    print(textwrap.fill(said, terminal_width()))
    return {"programs": programs, "minutes": minutes, "largest_bytes": most}


def named(program: Program) -> dict[str, Any]:
    task, framework = program.cells[0].task.label(), program.cells[0].framework
    return {"task": task, "optimizer": program.optimizer, "framework": framework, "lanes": len(program.cells)}


def print_table(session: Session, frame: Frame) -> dict[str, Any]:
    from optbench.stats.outcomes import outcomes
    from optbench.stats.provenance import faults
    from optbench.stats.stages import staged_note, with_untuned
    from optbench.stats.summary import as_text, legend, summarise
    from optbench.stats.verdict import verdict

    found, width = outcomes(frame), terminal_width()
    table, sentence = summarise(frame, found), verdict(frame, found)
    full = with_untuned(table, frame)
    print(f"\n{as_text(full)}\n\n{textwrap.fill(sentence, width)}\n\n{legend(full)}")
    if "stage" in frame:
        print(textwrap.fill(staged_note(frame), width))
    print()
    for fault in faults(frame):
        print(textwrap.fill(fault, width))
    if table["toy"].any():
        real = "the other rows are on real data" if not table["toy"].all() else "add --task mlp for real data"
        toys = listed(list(dict.fromkeys(table.loc[table["toy"], "task"])))
        print(textwrap.fill(TOY_NOTE.format(toys=toys, real=real), width))
    shown = ("suite", "task", "tuning", "trials", "results", "fresh")
    report = command_line("report", **{name: getattr(session.order.request, name) or None for name in shown})
    return {"verdict": sentence, "table": table, "next": report}
