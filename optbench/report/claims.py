"""The claims of the originals' documents in a report: a frame, a section, and a page of their own."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from optbench.claims import Document, Measurement, Verdict, documents
from optbench.claims.ledger import Ledger, Record
from optbench.claims.plots import Figure, Table
from optbench.core import UserError
from optbench.report.markdown import code, escape, table
from optbench.stats import Frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

TITLE = "What do the originals' documents claim, and what was measured?"
COLUMNS = (
    "document", "title", "claim", "statement", "says", "documented", "measured", "verdict", "why",
    "measurement", "file", "created",
)  # fmt: skip
"""Of the frame: text, but for `created`, seconds since 1970; `file` is in results/claims/."""
HEADER = ("claim", "documented", "measured", "verdict", "why")
INTRODUCTION = (
    "What the READMEs and docstrings of the originals say, and what was measured. Verdicts are computed "
    "from the stored measurements by rules; optbench claims NAME shows everything about one."
)


def frame(results: str, only: Iterable[str] | None = None) -> Frame:
    """One row for each claim that has been measured, in the order of the documents; the columns are `COLUMNS`.

    `only` narrows it to documents about these optimizers.
    """
    records = Ledger(results).records()
    rows = [row(document, records) for document in about(only)]
    return pd.DataFrame([found for part in rows for found in part], columns=list(COLUMNS))


def about(names: Iterable[str] | None) -> list[Document]:
    """The documents about some optimizers, or all."""
    wanted = None if names is None else {name.partition("[")[0] for name in names}
    return [d for d in documents().values() if wanted is None or wanted & set(d.optimizers)]


def row(document: Document, records: dict[str, Record]) -> list[tuple[object, ...]]:
    """The measured claims of a document."""
    found: list[tuple[object, ...]] = []
    for claim in document.claims:
        record = records.get(claim.measurement.id)
        if record is None:
            continue
        ruling = claim.ruling(record.numbers)
        texts = (
            claim.statement,
            claim.says,
            claim.documented,
            ruling.measured,
            str(ruling.verdict),
            ruling.why,
        )
        where = (claim.measurement.call, record.path.name, record.created)
        found.append((document.name, document.title, claim.name, *texts, *where))
    return found


@dataclass(frozen=True)
class Told:
    """A document, its measured claims, and what is shown beside them."""

    document: Document
    rows: Frame
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]


def measured(results: str | Path, only: Iterable[str] | None = None) -> list[Told]:
    """The documents of which something has been measured, narrowed to those about some optimizers."""
    records = Ledger(results).records()

    def numbers(measurement: Measurement) -> object:
        record = records.get(measurement.id)
        return None if record is None else record.numbers

    found = []
    for document in about(only):
        rows = pd.DataFrame(row(document, records), columns=list(COLUMNS))
        if rows.empty:
            continue
        tables = tuple(filter(None, (make(numbers) for make in document.tables)))
        figures = tuple(filter(None, (make(numbers) for make in document.figures)))
        found.append(Told(document, rows, tables, figures))
    return found


def drawings(told: Sequence[Told]) -> dict[str, Canvas]:
    """Every figure by the name of its file; to be called within `figures.style`."""
    from optbench.report.plots import draw

    return {f"claims-{each.name}": draw(each) for document in told for each in document.figures}


def section(told: Sequence[Told]) -> str:
    """What was measured, as Markdown."""
    parts = [INTRODUCTION, tally(told)]
    for each in told:
        document = each.document
        parts += [
            f"### {escape(document.title)}",
            f"Source: {escape(document.source)}",
            claims_table(each.rows),
        ]
        for described in each.tables:
            parts += [escape(described.caption), table(described.header, described.rows, left=3)]
        for described in each.figures:
            stem = f"figures/claims-{described.name}"
            parts += [
                f"[![{escape(described.name)}]({stem}.png)]({stem}.svg)",
                f"*{escape(described.caption)}*",
            ]
    return "\n\n".join(parts)


def claims_table(rows: Frame) -> str:
    """The claims of one document."""
    cells = rows[["claim", "documented", "measured", "verdict", "why"]].itertuples(index=False, name=None)
    return table(HEADER, cells, left=len(HEADER))


def counts(told: Sequence[Told]) -> list[tuple[Verdict, int]]:
    """How many claims have each verdict that occurs."""
    found = Counter(verdict for each in told for verdict in each.rows["verdict"])
    return [(verdict, found[verdict]) for verdict in Verdict if found[verdict]]


def tally(told: Sequence[Told]) -> str:
    """How many claims have each verdict, and what the verdicts mean."""
    rows = [(str(verdict), verdict.sentence, str(count)) for verdict, count in counts(told)]
    return table(("verdict", "meaning", "claims"), rows, left=2)


def write_page(results: str, out: str) -> str:
    """Write all measured claims to <out>/claims/ and say what was written.

    Raises:
        UserError: nothing has been measured, or the folder cannot be written to.
    """
    from optbench.report.figures import render, style
    from optbench.report.folder import save
    from optbench.report.page import claims_page

    told = measured(results)
    if not told:
        raise UserError(f"no claim has been measured in {results!r}. Measure first: optbench claims")
    with style():
        drawn = {name: render(figure) for name, figure in drawings(told).items()}
    files = {f"figures/{name}.{kind}": data for name, kinds in drawn.items() for kind, data in kinds.items()}
    again = "optbench claims" + ("" if results == "results" else f" --results {shlex.quote(results)}")
    folder = Path(out) / "claims"
    save(
        folder,
        {
            **files,
            "claims.csv": csv(frame(results)),
            "index.md": f"# {TITLE}\n\n{section(told)}\n\n## Reproduce\n\n{code([again])}\n".encode(),
            "index.html": claims_page(told, {name: kinds["svg"] for name, kinds in drawn.items()}, again),
        },
    )
    return f"Wrote {folder / 'index.html'}. Beside it: index.md, {len(drawn)} figures (SVG and PNG) and claims.csv."


def csv(rows: Frame, columns: Sequence[str] = COLUMNS) -> bytes:
    """As a file."""
    return rows[list(columns)].to_csv(index=False).encode()
