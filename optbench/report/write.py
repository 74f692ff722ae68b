"""`optbench report`: what is stored for a suite, as a page, as Markdown with figures, and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optbench.fields import UserError
from optbench.report import claims, compare, tex
from optbench.report import figures as draw
from optbench.report.content import Content
from optbench.report.folder import save
from optbench.report.index import index, moved
from optbench.report.markdown import slug
from optbench.report.page import comparison, page
from optbench.report.selection import Selection
from optbench.store import Store
from optbench.wording import count


def write_report(
    results: str, out: str, selection: Selection, allow_unequal: bool = False
) -> tuple[Path, str]:
    """Write the report to <out>/<suite>/; gives the folder, and what was written, in words.

    Args:
        results: the folder that results are kept in.
        out: the folder that reports go to.
        selection: which rows are shown.
        allow_unequal: rank optimizers although their budgets differ.

    Raises:
        UserError: nothing is stored that could be shown, or the folder cannot be written to.
    """
    content = Content.of(selection, Store(results), allow_unequal)
    folder = Path(out) / slug(selection.own.name)
    drawn = figures(content)
    save(
        folder,
        {**drawn, **tables(content), "index.md": index(content).encode(), "index.html": page(content, drawn)},
    )
    return folder, closing(folder, content, len(drawn))


def write_comparison(results: str, out: str, selection: Selection, sides: Sequence[str]) -> tuple[Path, str]:
    """Write what moved between two sides to <out>/<suite>-compare/ and say so; see `report.compare`.

    Raises:
        UserError: a side is not there, they have nothing in common, or the folder cannot be written to.
    """
    names = [name for side in sides for name in side.split(",") if name]
    if len(names) != 2:
        raise UserError(
            f"--compare was given {len(names)} names. Give two result folders, or two commits: --compare A B"
        )
    found = compare.compare(results, (names[0], names[1]), selection)
    folder = Path(out) / f"{slug(selection.own.name)}-compare"
    csv = compare.frame_of(found).to_csv(index=False, float_format="%.6g")
    save(
        folder,
        {"table.csv": csv.encode(), "index.md": moved(found).encode(), "index.html": comparison(found)},
    )
    return folder, f"Wrote {folder / 'index.html'}, index.md and table.csv.\n{found.headline}"


def tables(content: Content) -> dict[str, bytes]:
    """The comparison for a program and for a paper."""
    csv = content.summary.to_csv(index=False, float_format="%.6g")
    return {"table.csv": csv.encode(), "table.tex": tex.table(content).encode()}


def figures(content: Content) -> dict[str, bytes]:
    """Every figure as SVG and PNG, by path."""
    with draw.style():
        return draw.rendered({**draw.drawings(content), **claims.drawings(content.claims)})


def closing(folder: Path, content: Content, files: int) -> str:
    """What the terminal says."""
    names, tasks = len(content.optimizers), len(content.problems)
    cells = int(content.summary["lanes"].sum())
    seeded = {problem.rows["task"].iloc[0] for problem in content.problems if problem.question.seeded}
    return (
        f"Wrote {folder / 'index.html'}: {count(tasks, 'problem')}, {count(names, 'optimizer')}, "
        f"{count(cells, 'cell')}. Beside it: index.md, {files // 2} figures (SVG and PNG), table.csv and table.tex.\n"
        f"{content.headline}\n"
        f"Next: {content.selection.next_command(content.newest, content.summary, seeded, bool(content.terrains))}"
    )
