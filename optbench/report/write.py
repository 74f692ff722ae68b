"""`optbench report`: the results of a suite as a page, as Markdown with figures, and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from optbench.fields import UserError
from optbench.report import compare, tex
from optbench.report.content import FILES, Content
from optbench.report.figures import files
from optbench.report.index import document, index
from optbench.report.look import looks
from optbench.report.markdown import bullets, escape, slug
from optbench.report.page import page, render
from optbench.report.panels import PANELS
from optbench.report.parts import sections
from optbench.report.selection import Selection
from optbench.report.shelf import shelve
from optbench.stats import Frame
from optbench.store import Store
from optbench.wording import count, inert, listed


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
    beside = {name: name for name in FILES} | result_files(Path(results), folder)
    pages = {"index.md": index(content, shown, beside), "index.html": page(content, shown, drawn, beside)}
    shelve(folder, {**drawn, **tables, **pages})
    return folder, closing(folder, content, len(drawn) // 2)


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
    return folder, f"Wrote {folder / 'index.html'}, index.md and table.csv.\n" + "\n".join(
        [found.headline, *found.notes]
    )


def comparison(found: compare.Comparison) -> dict[str, bytes]:
    shown, drawn = found.sections(), looks(move.optimizer for move in found.moves)
    values = {"question": compare.TITLE, "suite": found.selection.own.name, "names": found.names}
    head = bullets(f"{side}: {escape(name)}" for side, name in zip("AB", found.names, strict=True))
    return {
        "index.md": document(compare.TITLE, [head], shown),
        "index.html": render("compare.html", shown, drawn, {}, **values),
    }


def csv(table: Frame, digits: int = 6) -> bytes:
    """A table for a program; the columns are described in docs/columns.md."""
    names = {name: name.replace("trial", "learning_rate") for name in table if name != "trials"}
    words = table.select_dtypes(exclude="number").map(inert)
    return (
        table.assign(**words).rename(columns=names).to_csv(index=False, float_format=f"%.{digits}g").encode()
    )


def closing(folder: Path, content: Content, figures: int) -> str:
    names, tasks = len(content.optimizers), content.stored["task"].nunique()
    cells = int(content.summary["lanes"].sum())
    seeded = {problem.rows["task"].iloc[0] for problem in content.problems if problem.question.seeded}
    beside = ["index.md", *[f"{figures} figures (SVG and PNG)"] * bool(figures), *FILES]
    more = "" if content.figures else " Figures for print: --figures."
    return (
        f"Wrote {folder / 'index.html'}: {count(tasks, 'task')}, {count(names, 'optimizer')}, "
        f"{count(cells, 'cell')}. Beside it: {listed(beside)}.{more}\n"
        f"{content.headline}\n"
        f"Next: {content.selection.next_command(content.newest, content.summary, seeded, bool(content.terrains))}"
    )
