"""What `optbench claims` prints: a table of all claims, or everything about a few."""

from __future__ import annotations

import json
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

from optbench.claims import Asked, Ruling, Verdict, documents
from optbench.claims.ledger import Record
from optbench.claims.plots import Table
from optbench.claims.session import Inquiry

WIDTH = 100
HEADER = ("claim", "documented", "measured", "verdict")
COLUMNS = (21, 27, 25, 22)
NOT_MEASURED = "not measured"
FAILED = "measurement failed"
INDENT = " " * 6


def judged(inquiry: Inquiry, asked: Asked) -> Ruling | None:
    """What the stored numbers say; None where there are none."""
    numbers = inquiry.numbers(asked.claim.measurement)
    return None if numbers is None else asked.claim.ruling(numbers)


def table(inquiry: Inquiry) -> str:
    """All claims that were asked about, by document, then how many of each verdict."""
    parts = []
    for document in documents().values():
        claims = [asked for asked in inquiry.asked if asked.document is document]
        if not claims:
            continue
        lines = [f"{document.name}: {document.title}", row(HEADER), row(["-" * width for width in COLUMNS])]
        parts.append("\n".join(lines + [entry(inquiry, asked) for asked in claims]))
        shown = (make(inquiry.numbers) for make in document.tables)
        parts += [f"{textwrap.fill(one.caption, WIDTH)}\n\n{plain_table(one)}" for one in shown if one]
    return "\n\n".join([*parts, counts(inquiry)])


def entry(inquiry: Inquiry, asked: Asked) -> str:
    """One claim: its cells, and below them why."""
    ruling, failed = judged(inquiry, asked), inquiry.failures.get(asked.claim.measurement.id)
    if failed:
        verdict, measured, why = FAILED, "-", failed
    elif ruling is None:
        verdict, measured, why = NOT_MEASURED, "-", f"Measure it: optbench claims {asked.name}"
    else:
        verdict, measured, why = str(ruling.verdict), ruling.measured, ruling.why
    cells = row((asked.claim.name, asked.claim.documented, measured, verdict))
    return f"{cells}\n{textwrap.fill(why, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)}"


def row(cells: Sequence[str]) -> str:
    """Cells in columns; a long one goes on below."""
    lines = zip_longest(
        *(textwrap.wrap(cell, width) for cell, width in zip(cells, COLUMNS, strict=True)), fillvalue=""
    )
    return "\n".join(
        "  " + " ".join(text.ljust(width) for text, width in zip(line, COLUMNS, strict=True)).rstrip()
        for line in lines
    )


def counts(inquiry: Inquiry) -> str:
    """`60 claims. Holds: 40, ...`."""
    failed = [asked for asked in inquiry.asked if asked.claim.measurement.id in inquiry.failures]
    rulings = [judged(inquiry, asked) for asked in inquiry.asked if asked not in failed]
    found = Counter(str(ruling.verdict) if ruling else NOT_MEASURED for ruling in rulings)
    found[FAILED] = len(failed)
    said = [f"{word} {found[word]}" for word in (*Verdict, NOT_MEASURED, FAILED) if found[word]]
    return textwrap.fill(f"{len(inquiry.asked)} claims: {', '.join(said)}.", WIDTH)


def plain_table(shown: Table) -> str:
    """A table of texts, as wide as it must be."""
    lines = [shown.header, *shown.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(rows)


def details(inquiry: Inquiry, asked: Asked) -> str:
    """Everything about one claim: the sentence, the rule's result, and what measured it."""
    claim, ruling = asked.claim, judged(inquiry, asked)
    record = inquiry.records.get(claim.measurement.id)
    failed = inquiry.failures.get(claim.measurement.id)
    lines = [
        ("Claim", claim.statement),
        ("Document", f"{asked.document.title}; {asked.document.source}"),
        ("Says", f'"{claim.says}"'),
        ("Documented", claim.documented),
    ]
    if ruling is not None:
        lines += [
            ("Measured", ruling.measured),
            ("Verdict", f"{ruling.verdict}: {ruling.verdict.sentence}."),
            ("Why", ruling.why),
        ]
    if failed:
        lines.append(("Failed", failed))
    lines += [*provenance(record), ("Measure again", f"optbench claims {asked.name} --again")]
    return "\n".join([asked.name, *(field(name, text) for name, text in lines), *sources(asked), ""])


def provenance(record: Record | None) -> list[tuple[str, str]]:
    """Where the numbers come from."""
    if record is None:
        return []
    facts = record.facts
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.created))
    code = f"optbench {facts['optbench_version']} {facts['commit']}"
    versions = ", ".join(
        f"{name} {facts[f'version.{name}']}"
        for name in ("jax", "optax", "torch")
        if facts.get(f"version.{name}")
    )
    return [
        ("Taken", f"{when}, {facts['cpu_seconds']:.1f} CPU-s, {code}".rstrip()),
        ("On", f"{facts['cpu_model']}; {versions}"),
        ("Numbers", str(record.path)),
    ]


def sources(asked: Asked) -> list[str]:
    """The code that measured and the code that judged, and the runs that it read."""
    measurement, rule = asked.claim.measurement, asked.claim.rule
    inputs = ", ".join(f"{name}={json.dumps(value)}" for name, value in measurement.inputs.items())
    lines = [
        ("Measured by", f"optbench.claims.programs.{measurement.call}"),
        ("Inputs", textwrap.shorten(inputs, 400, placeholder=" ...") or "none"),
        *(("Reads", f"optbench run --task {','.join(run.task or ())} --opt '{','.join(run.opt or ())}'"
           + (f" --schedule '{run.schedule}'" if run.schedule else "")) for run in measurement.runs),
        ("Judged by", f"{rule.__module__}.{rule.__name__}"),
    ]  # fmt: skip
    return [field(name, text) for name, text in lines]


def field(name: str, text: str) -> str:
    """A name and its text, wrapped."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"  {name:<14}",
        subsequent_indent=" " * 16,
        break_long_words=False,
        break_on_hyphens=False,
    )
