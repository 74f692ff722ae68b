"""`optbench claims` on a terminal: what is stored, what is measured, then a table or everything about a few."""

from __future__ import annotations

import json
import shlex
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

from optbench.claim import Asked, Measurement, Ruling, Verdict, documents, select
from optbench.claim.plots import Table
from optbench.claim.session import Inquiry, Record

FEW = 3
"""Up to so many claims are shown in full."""
WIDTH = 100
HEADER = ("claim", "documented", "measured", "verdict")
COLUMNS = (21, 27, 25, 22)
NOT_MEASURED = "not measured"
FAILED = "measurement failed"
INDENT = " " * 6


def claims_in_terminal(
    names: Sequence[str] | None, results: str, again: bool, strict: bool, jobs: int | None, timeout: float
) -> int:
    """Measure what is asked for and not stored, and print it; 1 with `strict` if a measurement failed."""
    begun = time.monotonic()
    asked = select(names)
    inquiry = Inquiry(asked, results, jobs, again, timeout)
    say_plan(inquiry)
    try:
        measure(inquiry, begun)
    except KeyboardInterrupt:
        print("\nInterrupted. What was measured is stored; the same command goes on from there.", flush=True)
        return 130
    for name, why in inquiry.ledger.passed_over.items():
        print(f"passed over {name} in {inquiry.ledger.folder}: {why}", file=sys.stderr)
    in_full = names is not None and len(asked) <= FEW
    print("\n" + "\n\n".join(details(inquiry, one) for one in asked) if in_full else "\n" + table(inquiry))
    close(inquiry, time.monotonic() - begun, in_full)
    return 1 if strict and inquiry.failures else 0


def say_plan(inquiry: Inquiry) -> None:
    """One line: how much is stored, how much there is to do."""
    total, missing = len(inquiry.measurements), len(inquiry.missing)
    said = f"optbench: {len(inquiry.asked)} claim{'s' * (len(inquiry.asked) > 1)}"
    if not missing:
        print(
            f"{said}; all {total} measurements are stored in {inquiry.ledger.folder} (--again measures anew)."
        )
        return
    workers = f"{inquiry.jobs} worker{'s' * (inquiry.jobs > 1)}"
    print(f"{said}; {total - missing} measurements stored, {missing} to do on {workers}.", flush=True)


def measure(inquiry: Inquiry, begun: float) -> None:
    """A line for each thing that ends."""
    for what, reason in inquiry.measure():
        if isinstance(what, Measurement):
            name = inquiry.serves(what)
        else:
            cell = what.cells[0]
            name = f"{cell.task.label()} / {cell.optimizer.label()}, {len(what.cells)} lanes"
        text = f"failed: {reason}: {name}" if reason else name
        shown = textwrap.shorten(text, WIDTH - 10, placeholder=" ...")
        print(f"{time.monotonic() - begun:6.1f} s  {shown}", flush=True)


def close(inquiry: Inquiry, seconds: float, in_full: bool) -> None:
    """Where the numbers are, and what to type next."""
    where = "" if inquiry.results == "results" else f" --results {shlex.quote(inquiry.results)}"
    stored = f"{sum(m.id in inquiry.records for m in inquiry.measurements)} of {len(inquiry.measurements)}"
    print(f"{stored} measurements are in {inquiry.ledger.folder} ({seconds:.1f} s).")
    odd = (a.name for a in inquiry.asked if (r := judged(inquiry, a)) and r.verdict != Verdict.HOLDS)
    example = next(odd, inquiry.asked[0].name)
    print("Next: " + (f"optbench claims{where}" if in_full else f"optbench claims {example}{where}"))


def judged(inquiry: Inquiry, asked: Asked) -> Ruling | None:
    """What the stored numbers say; None where there are none."""
    numbers = inquiry.numbers(asked.claim.measurement)
    return None if numbers is None else asked.judge(numbers)


def table(inquiry: Inquiry) -> str:
    """All claims that were asked about, by document, then how many of each verdict."""
    parts = []
    for document in documents().values():
        claims = [asked for asked in inquiry.asked if asked.document is document]
        if not claims:
            continue
        lines = [f"{document.name}: {document.title}", row(HEADER), row(["-" * width for width in COLUMNS])]
        parts.append("\n".join(lines + [entry(inquiry, asked) for asked in claims]))
        tables = (one for one in document.shown(inquiry.numbers) if isinstance(one, Table))
        parts += [f"{textwrap.fill(one.caption, WIDTH)}\n\n{plain_table(one)}" for one in tables]
    return "\n\n".join([*parts, counts(inquiry)])


def outcome(inquiry: Inquiry, asked: Asked) -> tuple[str, str, str]:
    """What there is to say of a claim: verdict, measured and why."""
    if failed := inquiry.failures.get(asked.claim.measurement.id):
        return FAILED, "-", failed
    return judged(inquiry, asked) or (NOT_MEASURED, "-", f"Measure it: optbench claims {asked.name}")


def entry(inquiry: Inquiry, asked: Asked) -> str:
    """One claim: its cells, and below them why."""
    verdict, measured, why = outcome(inquiry, asked)
    cells = row((asked.claim.name, asked.claim.documented, measured, verdict))
    return f"{cells}\n{textwrap.fill(why, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)}"


def row(cells: Sequence[str]) -> str:
    """Cells in columns; a long one goes on below."""
    columns = [textwrap.wrap(cell, width) for cell, width in zip(cells, COLUMNS, strict=True)]
    return "\n".join("  " + aligned(line, COLUMNS, " ") for line in zip_longest(*columns, fillvalue=""))


def aligned(texts: Sequence[str], widths: Sequence[int], gap: str) -> str:
    """Texts in columns."""
    return gap.join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip()


def counts(inquiry: Inquiry) -> str:
    """`60 claims. Holds: 40, ...`."""
    found = Counter(outcome(inquiry, asked)[0] for asked in inquiry.asked)
    said = [f"{word} {found[word]}" for word in (*Verdict, NOT_MEASURED, FAILED) if found[word]]
    return textwrap.fill(f"{len(inquiry.asked)} claims: {', '.join(said)}.", WIDTH)


def plain_table(shown: Table) -> str:
    """A table of texts, as wide as it must be."""
    lines = [shown.header, *shown.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(aligned(line, widths, "  ") for line in lines)


def details(inquiry: Inquiry, asked: Asked) -> str:
    """Everything about one claim: the sentence, the rule's result, what measured it and from what."""
    claim, measurement, ruling = asked.claim, asked.claim.measurement, judged(inquiry, asked)
    record, failed = inquiry.records.get(measurement.id), inquiry.failures.get(measurement.id)
    inputs = ", ".join(f"{name}={json.dumps(value)}" for name, value in measurement.inputs.items())
    lines = [
        ("Claim", claim.statement),
        ("Document", f"{asked.document.title}; {asked.document.source}"),
        ("Says", f'"{claim.says}"'),
        ("Documented", claim.documented),
    ]
    if ruling is not None:
        verdict = f"{ruling.verdict}: {ruling.verdict.sentence}."
        lines += [("Measured", ruling.measured), ("Verdict", verdict), ("Why", ruling.why)]
    lines += [
        *([("Failed", failed)] if failed else []),
        *(provenance(record) if record else []),
        ("Measure again", f"optbench claims {asked.name} --again"),
        ("Measured by", measurement.path),
        ("Inputs", textwrap.shorten(inputs, 400, placeholder=" ...") or "none"),
        *(("Reads", f"optbench run --task {','.join(run.task or ())} --opt '{','.join(run.opt or ())}'"
           + (f" --schedule '{run.schedule}'" if run.schedule else "")) for run in measurement.runs),
        ("Judged by", f"{claim.ruling.__module__}.{claim.ruling.__name__}"),
    ]  # fmt: skip
    return "\n".join([asked.name, *(field(name, text) for name, text in lines), ""])


def provenance(record: Record) -> list[tuple[str, str]]:
    """Where the numbers come from."""
    facts = record.facts
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.created))
    code = f"optbench {facts['optbench_version']} {facts['commit']}"
    versions = [
        f"{name} {facts[key]}" for name in ("jax", "optax", "torch") if facts.get(key := f"version.{name}")
    ]
    return [
        ("Taken", f"{when}, {facts['cpu_seconds']:.1f} CPU-s, {code}".rstrip()),
        ("On", f"{facts['cpu_model']}; {', '.join(versions)}"),
        ("Numbers", str(record.path)),
    ]


def field(name: str, text: str) -> str:
    """A name and its text, wrapped."""
    shape = textwrap.TextWrapper(
        WIDTH, f"  {name:<14}", " " * 16, break_long_words=False, break_on_hyphens=False
    )
    return shape.fill(text)
