"""The claims of the originals' documents in a report: rows, a section, and a page of their own."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from optbench.claim import Document, Verdict, documents
from optbench.claim.plots import Figure, Table
from optbench.claim.session import Ledger, Record, lookup
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


def ruled(document: Document, records: Mapping[str, Record]) -> Frame:
    """A row for each claim of a document that has been measured; the columns are `COLUMNS`."""
    found: list[tuple[object, ...]] = []
    for claim in document.claims:
        if record := records.get(claim.measurement.id):
            verdict, measured, why = claim.ruling(record.numbers)
            texts = (claim.statement, claim.says, claim.documented, measured, str(verdict), why)
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
    records, found = Ledger(results).records(), []
    wanted = None if only is None else {name.partition("[")[0] for name in only}
    for document in documents().values():
        rows = ruled(document, records)
        if len(rows) and (wanted is None or wanted & set(document.optimizers)):
            shown = document.shown(lookup(records))
            tables = tuple(each for each in shown if isinstance(each, Table))
            figures = tuple(each for each in shown if isinstance(each, Figure))
            found.append(Told(document, rows, tables, figures))
    return found


def drawings(told: Sequence[Told]) -> dict[str, Canvas]:
    """Every figure by the name of its file; to be called within `figures.style`."""
    from optbench.report.plots import draw

    return {f"claims-{each.name}": draw(each) for document in told for each in document.figures}


def section(told: Sequence[Told]) -> str:
    """What was measured, as Markdown."""
    rows = [(str(verdict), verdict.sentence, str(count)) for verdict, count in counts(told)]
    parts = [INTRODUCTION, table(("verdict", "meaning", "claims"), rows, left=2)]
    for each in told:
        document, rows = each.document, each.rows
        said = rows["statement"] + " (" + rows["document"] + "." + rows["claim"] + ")"
        cells = rows.assign(claim=said)[list(HEADER)].itertuples(index=False, name=None)
        parts += [f"### {escape(document.title)}", f"Source: {escape(document.source)}"]
        parts.append(table(HEADER, cells, left=len(HEADER)))
        for one in each.tables:
            parts += [escape(one.caption), table(one.header, one.rows, left=3)]
        for one in each.figures:
            parts += [picture(f"claims-{one.name}", one.name), f"*{escape(one.caption)}*"]
    return "\n\n".join(parts)


def counts(told: Sequence[Told]) -> list[tuple[Verdict, int]]:
    """How many claims have each verdict that occurs."""
    found = Counter(verdict for each in told for verdict in each.rows["verdict"])
    return [(verdict, found[verdict]) for verdict in Verdict if found[verdict]]


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
    folder, figures = Path(out) / "claims", len(drawn) // 2
    files = {
        "claims.csv": pd.concat([each.rows for each in told]).to_csv(index=False).encode(),
        "index.md": f"# {TITLE}\n\n{section(told)}\n\n## Reproduce\n\n{code([again])}\n".encode(),
        "index.html": claims_page(told, drawn, again),
    }
    save(folder, {**drawn, **files})
    beside = f"index.md, {figures} figures (SVG and PNG) and claims.csv"
    return f"Wrote {folder / 'index.html'}. Beside it: {beside}."
