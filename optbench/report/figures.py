"""The figures of a report: what the page's charts show (`report.charts`), laid out for paper."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from optbench.report.axes import GREY, draw_progress, draw_ranks, draw_rates, draw_shares, draw_terrain
from optbench.report.charts import progress
from optbench.report.content import Content
from optbench.report.look import Look
from optbench.report.markdown import slug
from optbench.report.problem import Problem
from optbench.report.standing import SPOKEN
from optbench.wording import number, spoken

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 7.2
"""Inches: the text width of a page."""
TOGETHER = 4
"""Up to so many paths share a panel; more get one each."""
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
    figure: Figure, looks: Sequence[Look], texts: Sequence[str], shared: list[str], **where: Any
) -> None:
    """One entry for each optimizer, then the signs that they share."""
    from matplotlib.lines import Line2D

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
            return len(columns)  # matplotlib fills as many as it is told, evenly
    return 1


def drawings(content: Content) -> dict[str, Figure]:
    """Every figure by the name of its file; to be called within `style`."""
    found = {"overview": overview(content)}
    if content.terrains:
        found["paths"] = paths(content)
    if not content.standings["steps"].refusals:
        found["standings"] = standings(content)
    for place, problem in enumerate(content.problems):
        found[f"{slug(problem.name)}-curves"] = curves(content, place)
        found[f"{slug(problem.name)}-sensitivity"] = sensitivities(content, place)
    return found


def overview(content: Content) -> Figure:
    """A row for each problem: progress at the best learning rate, and the final value at every one."""
    names, problems, looks = content.optimizers, content.problems, list(content.looks.values())
    places = {name: place for place, name in enumerate(names)}
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
    for i, (problem, shown) in enumerate(zip(problems, content.charts["problems"], strict=True)):
        left, right = grid.flat[2 * i], grid.flat[2 * i + 1]
        chart = progress(problem, problem.question.selection, places)
        draw_progress(left, chart, shown["lost"], looks, targets=False)
        draw_rates(right, shown["rates"], looks)
        left.set_title(wrapped(problem.name, 56))
        left.set_ylabel(spoken(problem.question.selection))
        right.set_title("final, by learning rate" if i < pairs else "", fontweight="normal", color="#444444")
        last = i + pairs >= len(problems)
        left.set_xlabel("steps" if last else "")
        right.set_xlabel("learning rate" if last else "")
    legend(figure, looks, names, shared, loc="outside upper center", ncols=columns, columnspacing=1.4)
    return figure


def curves(content: Content, place: int) -> Figure:
    """Every metric of a problem against steps, each optimizer at its best learning rate."""
    shown = content.charts["problems"][place]
    figure = new_figure(WIDTH, height_for(content.problems[place]))
    row = figure.subplots(1, len(shown["progress"]), squeeze=False)[0]
    for axes, chart in zip(row, shown["progress"], strict=True):
        draw_progress(axes, chart, shown["lost"], list(content.looks.values()))
        axes.set_xlabel("steps")
        axes.set_ylabel(chart["label"])
        name_targets(axes, chart)
    side_legend(figure, content, place, rings=False)
    return figure


def height_for(problem: Problem) -> float:
    """Inches: a panel's height, or what the legend beside it needs."""
    lines = sum(at_best(problem, name).count("\n") + 1.4 for name in problem.optimizers)
    return max(2.9, 0.152 * (lines + 3))


def side_legend(figure: Figure, content: Content, place: int, rings: bool) -> None:
    """Every optimizer with its best learning rate, beside the panels."""
    problem = content.problems[place]
    looks = [content.looks[name] for name in problem.optimizers]
    texts = [at_best(problem, name) for name in problem.optimizers]
    legend(figure, looks, texts, signs([problem], rings), loc="outside right upper", labelspacing=0.7)


def at_best(problem: Problem, name: str) -> str:
    """The legend's entry: the optimizer, its best learning rate, and what was lost there."""
    trial, lost = problem.best[name]["trial"].iloc[0], problem.lost(name)
    swept = trial is not None and trial == trial and name not in problem.never
    rate = f"\nlr {number(trial)}" if swept else ""  # pyright: ignore[reportArgumentType]
    return f"{wrapped(name)}{rate}" + (f"\n× {lost}" if lost else "")


def name_targets(axes: Any, chart: Mapping[str, Any]) -> None:
    """The value of each target, small, where its line ends."""
    low, high = axes.get_ylim()
    for target in chart["targets"]:
        if low < target < high:
            text = f"{100 * target:g}%" if chart["percent"] else number(target)
            axes.annotate(
                f"target {text}", (1, target), xycoords=("axes fraction", "data"), xytext=(3, 0),
                textcoords="offset points", ha="left", va="center", fontsize=6.5, color="#666666",
            )  # fmt: skip


def sensitivities(content: Content, place: int) -> Figure:
    """The final selection metric of a problem against the learning rate."""
    chart = content.charts["problems"][place]["rates"]
    figure = new_figure(WIDTH, height_for(content.problems[place]))
    axes = figure.subplots()
    draw_rates(axes, chart, list(content.looks.values()))
    axes.set_xlabel("learning rate")
    axes.set_ylabel(f"final {chart['label']}")
    side_legend(figure, content, place, rings=True)
    return figure


def standings(content: Content) -> Figure:
    """Profiles, runtime distributions, and ranks with their cliques, in steps."""
    standing, shown = content.standings["steps"], content.charts["standings"]["steps"]
    looks = {name: content.looks[name] for name in content.looks if name in set(standing.ranks["optimizer"])}
    columns = columns_that_fit(list(looks), WIDTH)
    height = max(2.4, 0.8 + 0.17 * len(looks)) + 0.2 * math.ceil(len(looks) / columns)
    figure = new_figure(WIDTH, height)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.05])
    word = SPOKEN[standing.axis]
    for axes, kind, title, x, y in (
        (left, "profiles", "performance profiles", f"{word} over the fastest", "share of problems solved"),
        (middle, "reached", "runtime distributions", "share of the budget", "share of targets reached"),
    ):
        draw_shares(axes, shown[kind], list(content.looks.values()), percent=kind == "reached")
        axes.set(title=title, xlabel=x, ylabel=y)
    draw_ranks(right, standing.ranks.to_dict("records"), standing.cliques, looks)
    right.set(title="mean rank", xlabel=f"1 is best; by {word}")
    legend(figure, list(looks.values()), list(looks), [], loc="outside upper center", ncols=columns)
    return figure


def paths(content: Content) -> Figure:
    """Paths over functions of two numbers: one panel for each function, or one for each optimizer on each."""
    terrains, looks = content.charts["terrains"], list(content.looks.values())
    names = {name: look for place, (name, look) in enumerate(content.looks.items())
             if any(path["o"] == place for terrain in terrains for path in terrain["paths"])}  # fmt: skip
    together = len(names) <= TOGETHER
    columns = len(terrains) if together else 4
    side = WIDTH / max(2, columns)
    lines = [1 if together else math.ceil(len(terrain["paths"]) / columns) for terrain in terrains]
    figure = new_figure(side * columns, side + 0.35 if together else 1.95 * sum(lines))
    grid = figure.subplots(1 if together else sum(lines), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for i, terrain in enumerate(terrains):
        first = i if together else columns * sum(lines[:i])
        for place, shown in enumerate(
            [terrain["paths"]] if together else [[path] for path in terrain["paths"]]
        ):
            axes = grid.flat[first + place]
            axes.set_axis_on()
            draw_terrain(axes, terrain, shown, looks, small=not together)
            name = "" if together else f": {content.optimizers[shown[0]['o']]}"
            axes.set_title(terrain["name"] + name, fontsize=None if together else 7)
    if together:
        columns = columns_that_fit(list(names), side * columns)
        legend(figure, list(names.values()), list(names), [], loc="outside upper center", ncols=columns)
    return figure
