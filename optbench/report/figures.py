"""Figures: an overview that fits a page, and for each problem its curves and its sensitivity."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from optbench.report.look import look, order
from optbench.report.panels import GREY, draw_curves, draw_sensitivity
from optbench.report.problem import Problem, spoken
from optbench.stats.summary import compact

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 7.2
"""Inches: the text width of a page."""
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
    "savefig.dpi": 200,
    "svg.hashsalt": "optbench",
    "svg.fonttype": "path",
}


def style() -> AbstractContextManager[Any]:
    """The one visual language, for as long as figures are drawn."""
    return mpl.rc_context(STYLE)  # pyright: ignore[reportArgumentType]


def render(figure: Figure) -> dict[str, bytes]:
    """A figure as SVG and as PNG, without dates, so that the same results give the same bytes."""
    found = {}
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, for both
    for kind, metadata in (("svg", {"Date": None, "Creator": "optbench"}), ("png", {"Software": "optbench"})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=metadata)
        found[kind] = buffer.getvalue()
    return found


def rendered(figures: Mapping[str, Figure]) -> dict[str, bytes]:
    """Figures by name, as SVG and PNG by path; to be called within `style`."""
    return {
        f"figures/{name}.{kind}": data
        for name, figure in figures.items()
        for kind, data in render(figure).items()
    }


def new_figure(width: float, height: float) -> Figure:
    """A figure that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


SIGNS = {
    "best learning rate": {"marker": "o", "ms": 8.5, "mfc": "none", "mew": 1.1},
    "diverged or failed": {"marker": "x", "ms": 5, "mew": 1.4},
}
"""What the signs that all optimizers share mean."""


def signs(problems: Sequence[Problem], rings: bool) -> list[str]:
    """Which of the signs are drawn."""
    crosses = any(
        (table["lost"] > 0).any() for problem in problems for table in problem.sensitivities.values()
    )
    return ["best learning rate"] * rings + ["diverged or failed"] * crosses


def legend(
    figure: Figure, names: Sequence[str], texts: Sequence[str], shared: list[str], **where: Any
) -> None:
    """One entry for each optimizer, then the signs that they share."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], **look(name).line()) for name in names]  # pyright: ignore[reportArgumentType]
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
            return len(columns)  # matplotlib fills as many as it is told, evenly
    return 1


def overview(problems: Sequence[Problem]) -> Figure:
    """A row for each problem: progress at the best learning rate, and the final value at every one."""
    names = order(name for problem in problems for name in problem.optimizers)
    pairs = 1 if len(problems) <= 6 else 2
    lines = math.ceil(len(problems) / pairs)
    width = WIDTH * (1 if pairs == 1 else 1.6)
    shared = signs(problems, rings=True)
    columns = columns_that_fit([*names, *shared], width)
    figure = new_figure(width, 1.62 * lines + 0.4 + 0.2 * math.ceil((len(names) + len(shared)) / columns))
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.05, hspace=0.02, wspace=0.02)  # pyright: ignore
    grid = figure.subplots(lines, 2 * pairs, squeeze=False, width_ratios=[1.25, 1] * pairs)
    for axes in grid.flat[2 * len(problems) :]:
        axes.set_axis_off()
    for i, problem in enumerate(problems):
        left, right = grid.flat[2 * i], grid.flat[2 * i + 1]
        draw_curves(left, problem, problem.question.selection, targets=False)
        draw_sensitivity(right, problem)
        left.set_title(wrapped(problem.name, 56))
        left.set_ylabel(spoken(problem.question.selection))
        right.set_title("final, by learning rate" if i < pairs else "", fontweight="normal", color="#444444")
        last = i + pairs >= len(problems)
        left.set_xlabel("steps" if last else "")
        right.set_xlabel("learning rate" if last else "")
    legend(figure, names, names, shared, loc="outside upper center", ncols=columns, columnspacing=1.4)
    return figure


def curves(problem: Problem) -> Figure:
    """Every metric of a problem against steps, each optimizer at its best learning rate."""
    metrics = problem.metrics
    figure = new_figure(WIDTH, height_for(problem))
    row = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(row, metrics, strict=True):
        draw_curves(axes, problem, metric)
        axes.set_xlabel("steps")
        axes.set_ylabel(spoken(metric))
        name_targets(axes, problem, metric)
    side_legend(figure, problem, rings=False)
    return figure


def height_for(problem: Problem) -> float:
    """Inches: a panel's height, or what the legend beside it needs."""
    lines = sum(at_best(problem, name).count("\n") + 1.4 for name in problem.optimizers)
    return max(2.9, 0.152 * (lines + 3))


def side_legend(figure: Figure, problem: Problem, rings: bool) -> None:
    """Every optimizer with its best learning rate, beside the panels."""
    names = list(problem.optimizers)
    texts = [at_best(problem, name) for name in names]
    legend(figure, names, texts, signs([problem], rings), loc="outside right upper", labelspacing=0.7)


def at_best(problem: Problem, name: str) -> str:
    """The legend's entry: the optimizer, its best learning rate, and what was lost there."""
    trial, lost = problem.best[name]["trial"].iloc[0], problem.lost(name)
    swept = trial is not None and trial == trial and name not in problem.never
    rate = f"\nlr {trial:.3g}" if swept else ""
    return f"{wrapped(name)}{rate}" + (f"\n× {lost}" if lost else "")


def name_targets(axes: Any, problem: Problem, metric: str) -> None:
    """The value of each target, small, where its line ends."""
    low, high = axes.get_ylim()
    for target in problem.question.targets:
        if target.metric == metric and low < target.value < high:
            text = f"{100 * target.value:g}%" if metric.endswith("error") else compact(target.value)
            axes.annotate(
                f"target {text}", (1, target.value), xycoords=("axes fraction", "data"), xytext=(3, 0),
                textcoords="offset points", ha="left", va="center", fontsize=6.5, color="#666666",
            )  # fmt: skip


def sensitivities(problem: Problem) -> Figure:
    """The final selection metric of a problem against the learning rate."""
    figure = new_figure(WIDTH, height_for(problem))
    axes = figure.subplots()
    draw_sensitivity(axes, problem)
    axes.set_xlabel("learning rate")
    axes.set_ylabel(f"final {spoken(problem.question.selection)}")
    side_legend(figure, problem, rings=True)
    return figure
