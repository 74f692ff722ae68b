"""What `optbench report` and `optbench claims --out` write: pages, Markdown with figures, tables, a list of reports."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pandas as pd

from optbench.environment import whole
from optbench.fields import UserError
from optbench.report import compare, tex
from optbench.report.content import FILES, Content
from optbench.report.documents import TITLE, measured
from optbench.report.figures import render as printed
from optbench.report.figures import style
from optbench.report.folder import MANIFEST, save
from optbench.report.look import looks
from optbench.report.markdown import bullets, escape, slug
from optbench.report.page import document, index, page, render
from optbench.report.panels import PANELS
from optbench.report.panels.claims import parts_of
from optbench.report.parts import Code, Picture, Section, all_parts, sections
from optbench.report.selection import Selection
from optbench.stats import Frame
from optbench.store import Store
from optbench.wording import command_line, count, inert, listed, terminal_width

REPORTS = "reports.html"
"""The reports of a folder, the newest first, each with what it says first."""


def write_report(
    results: str, out: str, selection: Selection, allow_unequal: bool = False, figures: bool = False
) -> tuple[Path, str]:
    """Write the report to <out>/<suite>/; returns the folder and what the terminal prints.

    Raises:
        UserError: no stored row matches, or the folder cannot be written to.
    """
    content = Content.of(selection, Store(results), allow_unequal, figures)
    folder = Path(out) / slug(content.selection.own.name)
    shown = sections(content, PANELS)
    drawn = files(shown)
    tables = {
        "table.csv": csv(content.summary), "curves.csv": csv(content.curves, 4),
        "table.tex": tex.table(content).encode(),
    }  # fmt: skip
    links = {name: name for name in FILES} | result_files(Path(results), folder)
    pages = {"index.md": index(content, shown, links), "index.html": page(content, shown, drawn, links)}
    shelve(folder, {**drawn, **tables, **pages})
    beside = ["index.md", *[f"{count(len(drawn) // 2, 'figure')} (SVG and PNG)"] * bool(drawn), *FILES]
    more = "" if figures else " Figures for print: --figures."
    wrote = f"Wrote {folder / 'index.html'}: {', '.join(content.counts)}. Beside it: {listed(beside)}.{more}"
    said = [
        textwrap.fill(text, terminal_width(), break_on_hyphens=False) for text in (wrote, content.headline)
    ]
    return folder, "\n".join([*said, f"Next: {content.next_command()}"])


def files(sections: Sequence[Section]) -> dict[str, bytes]:
    """Every picture of a report as SVG and PNG, by path."""
    found = [part for _, parts in sections for part in all_parts(parts) if isinstance(part, Picture)]
    with style():
        return {
            f"figures/{picture.name}.{kind}": data
            for picture in found
            for kind, data in printed(picture.draw()).items()
        }


def result_files(results: Path, folder: Path) -> dict[str, str]:
    """Where a report has its result files, if they lie in its folder: a link elsewhere would not travel with it."""
    runs, here = (results / "runs").resolve(), folder.resolve()
    return {"result files": quote(runs.relative_to(here).as_posix())} if runs.is_relative_to(here) else {}


def write_comparison(results: str, out: str, selection: Selection, sides: Sequence[str]) -> tuple[Path, str]:
    """Write the comparison of two sides to <out>/<suite>-compare/ and return what the terminal prints.

    Raises:
        UserError: a side does not exist, they have nothing in common, or the folder cannot be written to.
    """
    names = [name for side in sides for name in side.split(",") if name]
    if len(names) != 2:
        raise UserError(
            f"--compare was given {len(names)} names. Give two result folders, or two commits: --compare A B"
        )
    found = compare.compare(results, (names[0], names[1]), selection)
    folder = Path(out) / f"{slug(selection.own.name)}-compare"
    shelve(folder, {"table.csv": csv(compare.frame_of(found)), **comparison(found)})
    wrote = f"Wrote {folder / 'index.html'}, index.md and table.csv."
    return folder, "\n".join([wrote, found.headline, *found.notes])


def comparison(found: compare.Comparison) -> dict[str, bytes]:
    shown, drawn = found.sections(), looks(move.optimizer for move in found.moves)
    values = {"question": compare.TITLE, "suite": found.selection.own.name, "names": found.names}
    head = bullets(f"{side}: {escape(name)}" for side, name in zip("AB", found.names, strict=True))
    return {
        "index.md": document(compare.TITLE, [head], shown),
        "index.html": render("compare.html", shown, drawn, {}, **values),
    }


def write_claims(results: str, out: str) -> str:
    """Write all measured claims to <out>/claims/ and return a sentence that names the files.

    Raises:
        UserError: nothing has been measured, or the folder cannot be written to.
    """
    findings = measured(results)
    if not findings:
        raise UserError(f"no claim has been measured in {results!r}. Measure first: optbench claims")
    again = command_line("claims", results=results)
    shown: list[Section] = [("Claims", parts_of(findings)), ("Reproduce", [Code([again])])]
    figures = files(shown)
    folder = Path(out) / "claims"
    pages = {
        "claims.csv": pd.concat([each.rows for each in findings]).to_csv(index=False).encode(),
        "index.md": document(TITLE, [], shown),
        "index.html": render("claims_page.html", shown, {}, figures, question=TITLE),
    }
    shelve(folder, figures | pages)
    beside = f"index.md, {len(figures) // 2} figures (SVG and PNG) and claims.csv"
    return f"Wrote {folder / 'index.html'}. Beside it: {beside}."


def csv(table: Frame, digits: int = 6) -> bytes:
    """A table for a program; the columns are described in docs/columns.md."""
    names = {name: name.replace("trial", "learning_rate") for name in table if name != "trials"}
    table = table.assign(**table.select_dtypes(exclude="number").map(inert)).rename(columns=names)
    return table.to_csv(index=False, float_format=f"%.{digits}g").encode()


class Listed(NamedTuple):
    """A report beside others."""

    name: str
    says: str
    """Its verdict, or its question where it has none."""
    written: date


def shelve(folder: Path, files: Mapping[str, bytes]) -> None:
    """Save a report, and list those of the folder around it, if there are several."""
    save(folder, files)
    if len(found := reports(folder.parent)) > 1:
        with whole(folder.parent / REPORTS) as temporary:
            temporary.write_bytes(render("reports.html", [], {}, {}, reports=found))


def reports(folder: Path) -> list[Listed]:
    """The reports in a folder, the newest first."""
    found = []
    for path in folder.glob("*/index.md"):
        manifest, text = path.with_name(MANIFEST), path.read_text(errors="replace")
        if manifest.is_file() and text.startswith("# "):
            verdict = text.partition("\n## Verdict\n\n")[2] or text.removeprefix("# ")
            says = re.sub(r"\\(.)", r"\1", verdict.partition("\n")[0])
            found.append((manifest.stat().st_mtime, path.parent.name, says))
    return [Listed(name, says, date.fromtimestamp(when)) for when, name, says in sorted(found, reverse=True)]
