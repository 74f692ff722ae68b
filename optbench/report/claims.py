"""The page of all measured claims."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from optbench.fields import UserError
from optbench.report.documents import TITLE, measured
from optbench.report.figures import files
from optbench.report.index import document
from optbench.report.page import render
from optbench.report.panels.claims import parts_of
from optbench.report.parts import Code, Section
from optbench.report.shelf import shelve
from optbench.wording import command_line


def write_page(results: str, out: str) -> str:
    """Write all measured claims to <out>/claims/ and return a sentence that names the files.

    Raises:
        UserError: nothing has been measured, or the folder cannot be written to.
    """
    findings = measured(results)
    if not findings:
        raise UserError(f"no claim has been measured in {results!r}. Measure first: optbench claims")
    again = command_line("claims", results=None if results == "results" else results)
    sections: list[Section] = [("Claims", parts_of(findings)), ("Reproduce", [Code([again])])]
    figures = files(sections)
    folder = Path(out) / "claims"
    pages = {
        "claims.csv": pd.concat([each.rows for each in findings]).to_csv(index=False).encode(),
        "index.md": document(TITLE, [], sections),
        "index.html": render("claims_page.html", sections, {}, figures, question=TITLE),
    }
    shelve(folder, figures | pages)
    beside = f"index.md, {len(figures) // 2} figures (SVG and PNG) and claims.csv"
    return f"Wrote {folder / 'index.html'}. Beside it: {beside}."
