"""The measured claims of the optimizers' documents."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from optbench.claim import Kind, Verdict
from optbench.report import markdown
from optbench.report.content import Content
from optbench.report.documents import HEADER, INTRODUCTION, Findings, counts
from optbench.report.parts import Part, Picture, Table, Text
from optbench.report.plots import draw


def claims(content: Content) -> list[Part]:
    return parts_of(content.claims) if content.claims else []


def parts_of(findings: Sequence[Findings]) -> list[Part]:
    parts: list[Part] = [Text(INTRODUCTION, "note"), Tally(counts(findings))]
    for each in findings:
        parts += [
            Text(each.document.title, "heading"),
            Text(f"Source: {each.document.source}", "note"),
            Claims(each),
        ]
        for table in each.tables:
            name = table.name.replace("-", " ").capitalize()
            parts += [Text(table.caption, "note"), Table(name, table.header, table.rows, 3)]
        parts += [
            Picture(
                f"claims-{one.name}", one.name.replace("-", " "), functools.partial(draw, one), one.caption,
                embedded=True, narrow=len(one.panels) == 1,
            )
            for one in each.figures
        ]  # fmt: skip
    return parts


@dataclass(frozen=True)
class Tally(Part):
    """How many claims of each kind have each verdict."""

    counts: Sequence[tuple[Kind, Sequence[tuple[Verdict, int]]]]

    def markdown(self) -> str:
        rows = [(kind, v, v.sentence, str(count)) for kind, verdicts in self.counts for v, count in verdicts]
        return markdown.table(("kind", "verdict", "meaning", "claims"), rows, 3)


@dataclass(frozen=True)
class Claims(Part):
    """The claims of a document, each with its verdict."""

    findings: Findings

    def markdown(self) -> str:
        rows = self.findings.rows
        claim = rows["statement"] + " (" + rows["document"] + "." + rows["claim"] + "; " + rows["kind"] + ")"
        cells = rows.assign(claim=claim)[list(HEADER)].itertuples(index=False, name=None)
        return markdown.table(HEADER, cells, len(HEADER))
