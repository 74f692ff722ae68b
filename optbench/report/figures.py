"""Figures for print: their style, size and legends, and the files of those that a report's panels draw."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from optbench.report.axes import GREY
from optbench.report.look import Look
from optbench.report.parts import Picture, Section, all_parts
from optbench.report.problem import Problem

WIDTH = 7.2
"""Inches: the text width of a page."""
DPI = 200
"""Dots per inch of a PNG."""
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#444444",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "lines.markeredgewidth": 0.9,
    "text.parse_math": False,  # a name may hold dollar signs
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 2.6,
    "figure.dpi": 100,
    "svg.hashsalt": "optbench",
    "svg.fonttype": "path",
}


def style() -> AbstractContextManager[Any]:
    return mpl.rc_context(STYLE)  # pyright: ignore[reportArgumentType]


def render(figure: Figure) -> dict[str, bytes]:
    """A figure as SVG and as PNG, without dates, so that the same results give the same bytes."""
    if (engine := figure.get_layout_engine()) and figure.axes:
        engine.execute(figure)  # once, for both
    figure.set_layout_engine("none")
    figure.dpi = DPI
    png, svg = io.BytesIO(), io.BytesIO()
    # Not by `savefig`, which draws each twice.
    FigureCanvasAgg(figure).print_png(png, metadata={"Software": "optbench"})
    FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": "optbench"})
    return {"svg": svg.getvalue(), "png": png.getvalue()}


def files(sections: Sequence[Section]) -> dict[str, bytes]:
    """Every picture of a report as SVG and PNG, by path."""
    found = [part for _, parts in sections for part in all_parts(parts) if isinstance(part, Picture)]
    with style():
        return {
            f"figures/{picture.name}.{kind}": data
            for picture in found
            for kind, data in render(picture.draw()).items()
        }


def new_figure(width: float, height: float) -> Figure:
    """A figure that belongs to no window."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


SIGNS = {
    "best learning rate": {"marker": "o", "ms": 8.5, "mfc": "none", "mew": 1.1},
    "diverged or failed": {"marker": "x", "ms": 5, "mew": 1.4},
}
"""The signs that all optimizers share."""


def signs(problems: Sequence[Problem], rings: bool) -> list[str]:
    tables = [table for problem in problems for table in problem.sensitivities.values()]
    crosses = any((table["lost"] > 0).any() for table in tables)
    return ["best learning rate"] * rings + ["diverged or failed"] * crosses


def legend(
    figure: Figure, looks: Sequence[Look], texts: Sequence[str], shared: list[str], **where: Any
) -> None:
    """One entry for each optimizer, then the signs that they share."""
    lines = [Line2D([], [], **look.line()) for look in looks]  # pyright: ignore[reportArgumentType]
    lines += [Line2D([], [], ls="none", color=GREY, **SIGNS[sign]) for sign in shared]
    figure.legend(lines, [*texts, *shared], **where)


def wrapped(text: str, width: int = 24) -> str:
    """A long label broken after commas."""
    lines = [""]
    for part in text.replace(",", ",\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("  ")
        lines[-1] += part
    return "\n".join(lines)


def columns_that_fit(texts: Sequence[str], width: float) -> int:
    """How many legend columns fit a width in inches, filled downwards as matplotlib does."""
    for count in range(len(texts), 1, -1):
        deep = math.ceil(len(texts) / count)
        columns = [texts[i : i + deep] for i in range(0, len(texts), deep)]
        if sum(0.068 * max(map(len, column)) + 0.72 for column in columns) <= width:
            return len(columns)  # matplotlib fills them evenly
    return 1
