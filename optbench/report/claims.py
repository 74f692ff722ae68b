"""The claims of the originals' documents as a section of a report, and as a page of their own."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from optbench.fields import UserError
from optbench.report.documents import HEADER, INTRODUCTION, TITLE, Told, counts, measured
from optbench.report.figures import rendered, style
from optbench.report.folder import save
from optbench.report.markdown import code, escape, picture, table
from optbench.report.page import claims_page
from optbench.report.plots import draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def drawings(told: Sequence[Told]) -> dict[str, Canvas]:
    """Every figure by the name of its file; to be called within `figures.style`."""
    return {f"claims-{each.name}": draw(each) for document in told for each in document.figures}


def section(told: Sequence[Told]) -> str:
    """Verdicts, figures and tables as Markdown."""
    rows = [(kind, v, v.sentence, str(count)) for kind, verdicts in counts(told) for v, count in verdicts]
    parts = [INTRODUCTION, table(("kind", "verdict", "meaning", "claims"), rows, left=3)]
    for each in told:
        document, rows = each.document, each.rows
        claims = rows["statement"] + " (" + rows["document"] + "." + rows["claim"] + "; " + rows["kind"] + ")"
        cells = rows.assign(claim=claims)[list(HEADER)].itertuples(index=False, name=None)
        parts += [f"### {escape(document.title)}", f"Source: {escape(document.source)}"]
        parts.append(table(HEADER, cells, left=len(HEADER)))
        for one in each.tables:
            parts += [escape(one.caption), table(one.header, one.rows, left=3)]
        for one in each.figures:
            parts += [picture(f"claims-{one.name}", one.name), f"*{escape(one.caption)}*"]
    return "\n\n".join(parts)


def write_page(results: str, out: str) -> str:
    """Write all measured claims to <out>/claims/; returns a sentence that lists the files.

    Raises:
        UserError: nothing has been measured, or the folder cannot be written to.
    """
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
