"""The claims of the originals' documents and their measurements, as rows."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from optbench.claim import Document, Kind, Record, Verdict, documents
from optbench.claim.plots import Figure, Table
from optbench.claim.session import Ledger
from optbench.stats import Frame

TITLE = "What do the originals' documents claim, and what was measured?"
COLUMNS = (
    "document", "title", "claim", "statement", "says", "documented", "measured", "verdict", "why",
    "measurement", "file", "created", "kind",
)  # fmt: skip
"""Of the rows: text, but for `created`, seconds since 1970; `file` is in results/claims/."""
HEADER = ("verdict", "claim", "documented", "measured", "why")
INTRODUCTION = (
    "Claims of the READMEs and docstrings of the originals, and their measurements. Rules compute the verdicts from "
    "the stored measurements; optbench claims NAME shows one claim in full."
)


def ruled(document: Document, records: Mapping[str, Record]) -> Frame:
    """A row for each claim of a document that has been measured; the columns are `COLUMNS`."""
    found: list[tuple[object, ...]] = []
    for claim in document.claims:
        if record := records.get(claim.measurement.id):
            verdict, measured, why = claim.judge(record.numbers)
            texts = (claim.statement, claim.says, claim.documented, measured, str(verdict), why)
            where = (claim.measurement.call, record.path.name, record.created, str(claim.measurement.kind))
            found.append((document.name, document.title, claim.short, *texts, *where))
    return pd.DataFrame(found, columns=list(COLUMNS))


@dataclass(frozen=True)
class Findings:
    """A document with its measured claims, tables and figures."""

    document: Document
    rows: Frame
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]


def measured(results: str | Path, only: Iterable[str] | None = None) -> list[Findings]:
    """The documents with measured claims, optionally only those about some optimizers."""
    records, found = Ledger(results).records(), []
    wanted = None if only is None else {name.partition("[")[0] for name in only}
    for document in documents().values():
        rows = ruled(document, records)
        if len(rows) and (wanted is None or wanted & set(document.optimizers)):
            shown = document.shown(records)
            tables = tuple(each for each in shown if isinstance(each, Table))
            figures = tuple(each for each in shown if isinstance(each, Figure))
            found.append(Findings(document, rows, tables, figures))
    return found


def counts(findings: Sequence[Findings]) -> list[tuple[Kind, list[tuple[Verdict, int]]]]:
    """The number of claims of each kind and verdict that occurs."""
    pairs = (zip(each.rows["kind"], each.rows["verdict"], strict=True) for each in findings)
    number = Counter(itertools.chain(*pairs))
    rows = [(kind, [(v, n) for v in Verdict if (n := number[str(kind), str(v)])]) for kind in Kind]
    return [(kind, verdicts) for kind, verdicts in rows if verdicts]
