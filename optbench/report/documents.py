"""What the originals' documents claim and what was measured of it, as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from optbench.claims import Document, Verdict, documents
from optbench.claims.ledger import Ledger, Record, lookup
from optbench.claims.plots import Figure, Table
from optbench.stats import Frame

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
    found = []
    for claim in document.claims:
        if (record := records.get(claim.measurement.id)) is not None:
            ruling = claim.ruling(record.numbers)
            found.append((
                document.name, document.title, claim.name, claim.statement, claim.says, claim.documented,
                ruling.measured, str(ruling.verdict), ruling.why, claim.measurement.call, record.path.name,
                record.created,
            ))  # fmt: skip
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


def counts(told: Sequence[Told]) -> list[tuple[Verdict, int]]:
    """How many claims have each verdict that occurs."""
    found = Counter(verdict for each in told for verdict in each.rows["verdict"])
    return [(verdict, found[verdict]) for verdict in Verdict if found[verdict]]
