"""The claims of the originals' documents in a report: rows, a section, and a page of their own."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from optbench.claims import Document, Verdict, documents
from optbench.claims.ledger import Ledger, Record, lookup
from optbench.claims.plots import Figure, Table
from optbench.fields import UserError
from optbench.report.markdown import code, escape, picture, table
from optbench.stats import Frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

TITLE = "What do the originals' documents claim, and what was measured?"
COLUMNS = (
    "document", "title", "claim", "statement", "says", "documented", "measured", "verdict", "why",
    "measurement", "file", "created",
)  # fmt: skip
"""Of the rows: text, but for `created`, seconds since 1970; `file` is in results/claims/."""
HEADER = ("verdict", "claim", "documented", "measured", "why")
INTRODUCTION = (
    "What the READMEs and docstrings of the originals say, and what was measured. Verdicts are computed "
    "from the stored measurements by rules; optbench claims NAME shows everything about one."
)


def about(names: Iterable[str] | None) -> list[Document]:
    """The documents about some optimizers, or all."""
    wanted = None if names is None else {name.partition("[")[0] for name in names}
    return [d for d in documents().values() if wanted is None or wanted & set(d.optimizers)]


def ruled(document: Document, records: Mapping[str, Record]) -> Frame:
    """A row for each claim of a document that has been measured; the columns are `COLUMNS`."""
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
    return pd.DataFrame(found, columns=list(COLUMNS))


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
    numbers = lookup(records)
    found = []
    for document in about(only):
        rows = ruled(document, records)
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
            drawn = picture(f"claims-{described.name}", described.name)
            parts += [drawn, f"*{escape(described.caption)}*"]
    return "\n\n".join(parts)


def claims_table(rows: Frame) -> str:
    """The claims of one document."""
    said = rows["statement"] + " (" + rows["document"] + "." + rows["claim"] + ")"
    cells = rows.assign(claim=said)[list(HEADER)].itertuples(index=False, name=None)
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
    from optbench.report.figures import rendered, style
    from optbench.report.folder import save
    from optbench.report.page import claims_page

    told = measured(results)
    if not told:
        raise UserError(f"no claim has been measured in {results!r}. Measure first: optbench claims")
    with style():
        drawn = rendered(drawings(told))
    again = "optbench claims" + ("" if results == "results" else f" --results {shlex.quote(results)}")
    folder = Path(out) / "claims"
    save(
        folder,
        {
            **drawn,
            "claims.csv": pd.concat([each.rows for each in told]).to_csv(index=False).encode(),
            "index.md": f"# {TITLE}\n\n{section(told)}\n\n## Reproduce\n\n{code([again])}\n".encode(),
            "index.html": claims_page(told, drawn, again),
        },
    )
    figures = len(drawn) // 2
    return (
        f"Wrote {folder / 'index.html'}. Beside it: index.md, {figures} figures (SVG and PNG) and claims.csv."
    )
