"""The claims of the originals' documents in a report: a frame, a section, and a page of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from optbench.claims import Document, Measurement, Verdict, documents
from optbench.claims.ledger import Ledger, Record
from optbench.core import UserError
from optbench.report.markdown import code, escape, table
from optbench.stats import Frame

COLUMNS = (
    "document", "title", "claim", "statement", "says", "documented", "measured", "verdict", "why",
    "measurement", "file", "created",
)  # fmt: skip
"""Of the frame: text, but for `created`, seconds since 1970; `file` is in results/claims/."""
HEADER = ("claim", "documented", "measured", "verdict", "why")
INTRODUCTION = (
    "What the READMEs and docstrings of the originals say, and what was measured. Verdicts are computed "
    "from the stored measurements by rules; `optbench claims NAME` shows everything about one."
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


def section(
    results: str, only: Iterable[str] | None = None, prefix: str = ""
) -> tuple[str, dict[str, bytes]]:
    """The section as Markdown, and its figures by path; both empty where nothing has been measured.

    `prefix` goes before the names of figures.
    """
    from optbench.report.figures import render, style
    from optbench.report.plots import draw

    rows = frame(results, only)
    if rows.empty:
        return "", {}
    records = Ledger(results).records()

    def numbers(measurement: Measurement) -> object:
        record = records.get(measurement.id)
        return None if record is None else record.numbers

    parts, files = [INTRODUCTION, tally(rows)], {}
    for document in about(only):
        own = rows[rows["document"] == document.name]
        if own.empty:
            continue
        parts += [f"### {escape(document.title)}", f"Source: {escape(document.source)}", claims_table(own)]
        for described in filter(None, (make(numbers) for make in document.tables)):
            parts += [escape(described.caption), table(described.header, described.rows, left=3)]
        for described in filter(None, (make(numbers) for make in document.figures)):
            with style():
                drawn = render(draw(described))
            stem = f"figures/{prefix}{described.name}"
            files |= {f"{stem}.{kind}": data for kind, data in drawn.items()}
            parts += [
                f"[![{escape(described.name)}]({stem}.png)]({stem}.svg)",
                f"*{escape(described.caption)}*",
            ]
    return "\n\n".join(parts), files


def claims_table(rows: Frame) -> str:
    """The claims of one document."""
    cells = rows[["claim", "documented", "measured", "verdict", "why"]].itertuples(index=False, name=None)
    return table(HEADER, cells, left=len(HEADER))


def tally(rows: Frame) -> str:
    """How many claims have each verdict, and what the verdicts mean."""
    counts = rows["verdict"].value_counts()
    return table(
        ("verdict", "meaning", "claims"),
        [(str(v), v.sentence, str(counts[str(v)])) for v in Verdict if str(v) in counts.index],
        left=2,
    )


def write_page(results: str, out: str) -> str:
    """Write all measured claims to <out>/claims/ and say what was written.

    Raises:
        UserError: nothing has been measured, or the folder cannot be written to.
    """
    from optbench.report.write import save

    text, files = section(results)
    if not text:
        raise UserError(f"no claim has been measured in {results!r}. Measure first: optbench claims")
    folder = Path(out) / "claims"
    again = code(["optbench claims" + ("" if results == "results" else f" --results {results}")])
    page = f"# Claims of the originals' documents\n\n{text}\n\n## Reproduce\n\n{again}\n"
    save(folder, {**files, "claims.csv": csv(frame(results)), "index.md": page.encode()})
    return f"Wrote {folder / 'index.md'}: {len(files) // 2} figures (SVG and PNG) and claims.csv beside it."


def csv(rows: Frame, columns: Sequence[str] = COLUMNS) -> bytes:
    """As a file."""
    return rows[list(columns)].to_csv(index=False).encode()
