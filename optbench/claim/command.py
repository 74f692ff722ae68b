"""`optbench claims` on a terminal: what is stored and measured, then a table, or everything about a few claims."""

from __future__ import annotations

import json
import shlex
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from optbench.claim import Claim, Kind, Measurement, Ruling, Verdict, documents, select
from optbench.claim.plots import Table
from optbench.claim.session import Inquiry
from optbench.wording import columns, count, number

FEW = 3
"""Up to this many claims are shown in full."""
WIDTH = 100
HEADER = ("claim", "documented", "measured", "verdict")
COLUMNS = (21, 27, 25, 22)
NOT_MEASURED = "not measured"
FAILED = "measurement failed"
VERSIONS = ("jax", "optax", "torch")


def claims_in_terminal(
    names: Sequence[str] | None, results: str, again: bool, strict: bool, jobs: int | None, timeout: float
) -> tuple[int, dict[str, Any]]:
    """Measure what is selected and not stored, and print it; 1 with `strict` if a measurement failed.

    Also what `--json` prints.
    """
    begun = time.monotonic()
    asked = select(names)
    inquiry = Inquiry(asked, results, jobs, again, timeout)
    print(plan(inquiry), flush=True)
    try:
        for what, reason in inquiry.measure():
            if isinstance(what, Measurement):
                name = inquiry.serves(what)
            else:
                cell = what.cells[0]
                name = f"{cell.task.label()} / {cell.optimizer.label()}, {count(len(what.cells), 'lane')}"
            text = f"failed: {reason}: {name}" if reason else name
            short = textwrap.shorten(text, WIDTH - 10, placeholder=" ...")
            print(f"{time.monotonic() - begun:6.1f} s  {short}", flush=True)
    except KeyboardInterrupt:
        said = "Interrupted. Finished measurements are stored; the same command continues from there."
        print(f"\n{said}", flush=True)
        return 130, {}
    for name, why in inquiry.ledger.passed_over.items():
        print(f"skipped unreadable file {name} in {inquiry.ledger.folder}: {why}", file=sys.stderr)
    in_full = names is not None and len(asked) <= FEW
    print("\n" + ("\n\n".join(details(inquiry, one) for one in asked) if in_full else table(inquiry)))
    stored = f"{sum(m.id in inquiry.records for m in inquiry.measurements)} of {len(inquiry.measurements)}"
    print(f"{stored} measurements are in {inquiry.ledger.folder} ({time.monotonic() - begun:.1f} s).")
    odd = (a.name for a in asked if (r := judged(inquiry, a)) and r.verdict != Verdict.HOLDS)
    where = "" if results == "results" else f" --results {shlex.quote(results)}"
    print(f"Next: optbench claims{'' if in_full else ' ' + next(odd, asked[0].name)}{where}")
    found = [
        {"claim": a.name, "kind": str(a.measurement.kind), "says": a.says, "documented": a.documented}
        | dict(zip(("verdict", "measured", "why"), map(str, outcome(inquiry, a)), strict=True))
        for a in asked
    ]
    return int(strict and bool(inquiry.failures)), {"claims": found}


def plan(inquiry: Inquiry) -> str:
    """How much is stored, and how much there is to do."""
    total, missing = len(inquiry.measurements), len(inquiry.missing)
    claims = f"optbench: {count(len(inquiry.asked), 'claim')}"
    if not missing:
        return f"{claims}; all {total} measurements are stored in {inquiry.ledger.folder} (--again repeats them)."
    return f"{claims}; {total - missing} measurements stored, {missing} to do on {count(inquiry.jobs, 'worker')}."


def judged(inquiry: Inquiry, asked: Claim) -> Ruling | None:
    record = inquiry.records.get(asked.measurement.id)
    return None if record is None else asked.judge(record.numbers)


def outcome(inquiry: Inquiry, asked: Claim) -> tuple[str, str, str]:
    """Verdict, measured value and why; of a claim without a measurement, the reason."""
    if failed := inquiry.failures.get(asked.measurement.id):
        return FAILED, "-", failed
    return judged(inquiry, asked) or (NOT_MEASURED, "-", f"Measure it: optbench claims {asked.name}")


def table(inquiry: Inquiry) -> str:
    """The selected claims by document and kind, then the number of each verdict."""
    parts = []
    for document in documents().values():
        claims = [asked for asked in inquiry.asked if asked.document is document]
        if claims:
            head = row(HEADER), row(["-" * width for width in COLUMNS])
            lines = [f"{document.name}: {document.title}", *head]
            for kind in Kind:
                entries = [entry(inquiry, asked) for asked in claims if asked.measurement.kind == kind]
                lines += [f"  {kind}:", *entries] if entries else []
            parts.append("\n".join(lines))
            for shown in document.shown(inquiry.records):
                if isinstance(shown, Table):
                    rows = columns((shown.header, *shown.rows), 7)
                    parts.append(f"{textwrap.fill(shown.caption, WIDTH)}\n\n{rows}")
    return "\n\n".join([*parts, counts(inquiry)])


def entry(inquiry: Inquiry, asked: Claim) -> str:
    """A claim's row, and below it why."""
    verdict, measured, why = outcome(inquiry, asked)
    cells = row((asked.short, asked.documented, measured, verdict))
    return f"{cells}\n{textwrap.fill(why, WIDTH, initial_indent=' ' * 6, subsequent_indent=' ' * 6)}"


def row(cells: Sequence[str]) -> str:
    wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, COLUMNS, strict=True)]
    lines = [map(str.ljust, line, COLUMNS) for line in zip_longest(*wrapped, fillvalue="")]
    return "\n".join(("  " + " ".join(line)).rstrip() for line in lines)


def counts(inquiry: Inquiry) -> str:
    """`57 claims.`, then a line for each kind: `equations and counts: 39; holds 31, ...`."""
    lines = [f"{count(len(inquiry.asked), 'claim')}."]
    for kind in Kind:
        found = Counter(outcome(inquiry, a)[0] for a in inquiry.asked if a.measurement.kind == kind)
        verdicts = [f"{word} {found[word]}" for word in (*Verdict, NOT_MEASURED, FAILED) if found[word]]
        lines += [textwrap.fill(f"{kind}: {found.total()}; {', '.join(verdicts)}.", WIDTH)] if found else []
    return "\n".join(lines)


def details(inquiry: Inquiry, asked: Claim) -> str:
    """Everything about one claim: the sentence, the verdict, the measurement and its origin."""
    measurement, ruling = asked.measurement, judged(inquiry, asked)
    inputs = ", ".join(f"{name}={json.dumps(value)}" for name, value in measurement.inputs.items())
    lines = [
        ("Claim", asked.statement),
        ("Document", f"{asked.document.title}; {asked.document.source}"),
        ("Says", f'"{asked.says}"'),
        ("Documented", asked.documented),
    ]
    if ruling is not None:
        verdict = f"{ruling.verdict}: {ruling.verdict.sentence}."
        lines += [("Measured", ruling.measured), ("Verdict", verdict), ("Why", ruling.why)]
    if failed := inquiry.failures.get(measurement.id):
        lines.append(("Failed", failed))
    if record := inquiry.records.get(measurement.id):
        facts, when = record.facts, time.strftime("%Y-%m-%d %H:%M", time.localtime(record.created))
        code = f"optbench {facts['optbench_version']} {facts['commit']}".rstrip()
        versions = [f"{name} {facts[key]}" for name in VERSIONS if facts.get(key := f"version.{name}")]
        lines += [
            ("Taken", f"{when}, {number(facts['cpu_seconds'])} CPU-s, {code}"),
            ("On", f"{facts['cpu_model']}; {', '.join(versions)}"),
            ("Rules then", f"table {facts.get('registered_rules', 'unknown')}"),
            ("Numbers", str(record.path)),
        ]
    lines += [
        ("Measure again", f"optbench claims {asked.name} --again"),
        ("Measured by", measurement.path),
        ("Inputs", textwrap.shorten(inputs, 400, placeholder=" ...") or "none"),
    ]
    for run in measurement.runs:
        schedule = f" --schedule '{','.join(run.schedule)}'" if run.schedule else ""
        tasks, optimizers = ",".join(run.task or ()), ",".join(run.opt or ())
        lines.append(("Reads", f"optbench run --task '{tasks}' --opt '{optimizers}'{schedule}"))
    lines.append(("Judged by", f"{asked.ruling.__module__}.{asked.ruling.__name__}"))
    look = {"subsequent_indent": " " * 16, "break_long_words": False, "break_on_hyphens": False}
    texts = [textwrap.fill(text, WIDTH, initial_indent=f"  {name:<14}", **look) for name, text in lines]
    return "\n".join([asked.name, *texts, ""])
