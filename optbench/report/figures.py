"""Figures for print: style, legends, and the data of charts (`report.charts`), drawn as charts.js draws them."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from optbench.fields import UserError, nearest
from optbench.report.charts import ticks
from optbench.report.look import Look
from optbench.report.look import looks as looks_of
from optbench.report.problem import Problem
from optbench.stats import Frame
from optbench.stats.curves import curve
from optbench.stats.outcomes import chosen
from optbench.stats.settings import question_of
from optbench.wording import spoken

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
GREY = "#8a8a8a"
BAND = 0.16
"""Opacity of a band."""
BANDS = 6
"""Up to so many shares show their bands."""
STRIP = "#f3f3f3"
CONTOUR = "#c9ced6"
Chart = Mapping[str, Any]
Looks = Sequence[Look]
"""By the place that a line's `o` names."""


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


def legend(figure: Figure, looks: Mapping[str, Look], shared: Sequence[str] = (), **where: Any) -> None:
    """One entry for each optimizer, by its text, then the signs that they share."""
    lines = [Line2D([], [], **look.line()) for look in looks.values()]  # pyright: ignore[reportArgumentType]
    lines += [Line2D([], [], ls="none", color=GREY, **SIGNS[sign]) for sign in shared]
    figure.legend(lines, [*looks, *shared], **where)


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


def numbers(line: Chart, *keys: str) -> list[np.ndarray]:
    """Lists of a chart as arrays; what is missing is NaN."""
    return [np.array(line[key], float) for key in keys]


def draw_progress(
    axes: Axes, chart: Chart, lost: Sequence[Sequence[int]], looks: Looks, targets: bool = True
) -> None:
    """Median and band over seeds against steps; a cross at the top edge where a lane diverged or failed."""
    for target in chart["targets"] if targets else ():
        axes.axhline(target, color=GREY, lw=0.9, ls=(0, (3, 2)), zorder=1)
    for place, line in enumerate(chart["lines"]):
        style, (x, y, low, high) = looks[line["o"]], numbers(line, "x", "y", "low", "high")
        axes.fill_between(x, low, high, color=style.colour, alpha=BAND, lw=0)
        end = line["end"]
        every = max(1, end // 6)
        # Markers start at different places, so that curves that run together keep theirs apart.
        marked = [*range(place * every // len(chart["lines"]), end - 1 - every // 2, every), end - 1]
        axes.plot(x[:end], y[:end], **style.line(), markevery=marked)
    for o, step in lost:
        cross(axes, step, 0.97, looks[o])
    log_scale(axes, chart)
    ends = [x for line in chart["lines"] for x in line["x"][-1:]]
    axes.set_xlim(0, 1.015 * max([1, *ends, *(step for _, step in lost)]))


def log_scale(axes: Axes, chart: Chart) -> None:
    axes.set(yscale="log", ylim=chart["span"])
    few_ticks(axes.yaxis, *chart["span"], percent=chart["percent"])


def few_ticks(axis: Any, low: float, high: float, percent: bool = False) -> None:
    """Ticks at powers of ten, or between them too where there are few."""
    axis.set_major_locator(FixedLocator(ticks(low, high)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%" if percent else tick(value)))
    axis.set_minor_locator(NullLocator())


def tick(value: float) -> str:
    """A power of ten as one where it is far from 1, else a plain number; the page's script writes the same."""
    power = np.log10(value)
    if abs(power - round(power)) < 1e-6 and not -2 <= round(power) <= 3:
        return "10" + str(round(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{float(f'{value:.3g}'):g}"


def cross(axes: Axes, x: float, y: float, style: Look, faint: bool = False) -> None:
    """The sign of what diverged or failed, at a fraction of the height."""
    axes.plot(
        [x], [y], marker="x", ms=3.6 if faint else 5, mew=0.9 if faint else 1.4, color=style.colour,
        transform=axes.get_xaxis_transform(), clip_on=False, zorder=4, linestyle="none",
    )  # fmt: skip


def draw_rates(axes: Axes, chart: Chart, looks: Looks) -> None:
    """Final value against the learning rate; lost lanes in a strip along the top edge, a ring around the best."""
    lines = chart["lines"]
    losing = [line["o"] for line in lines if any(line["lost"])]
    row = min(0.075, 0.32 / max(1, len(losing)))
    axes.set_xscale("log")
    log_scale(axes, chart)
    # Room along the top edge for what has no value, shaded since the scale does not apply to it.
    low, high = axes.get_ylim()
    axes.set_ylim(low, low * (high / low) ** (1 / (1 - row * len(losing))))
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in axes.get_yticks() if low <= tick <= high]))
    if losing:
        axes.axhspan(high, axes.get_ylim()[1], color=STRIP, lw=0, zorder=0.2)
    for place, line in enumerate(lines):
        style = looks[line["o"]]
        if None in line["x"]:  # nothing to sweep: the same value everywhere
            axes.axhline(numbers(line, "y")[0][0], color=style.colour, linestyle=style.dash, lw=1)
            continue
        height = 1 - row * (losing.index(line["o"]) + 0.5) if line["o"] in losing else 1.0
        # A little sideways, so that bars at one learning rate do not hide each other.
        aside = 10 ** (min(0.018, 0.1 / len(lines)) * (place - (len(lines) - 1) / 2))
        draw_rate(axes, line, style, chart["range"], height, aside)
    low, high = axes.get_xlim()
    if high < 1.1 * low:  # a single learning rate
        axes.set_xlim(low / 2, high * 2)
    few_ticks(axes.xaxis, *axes.get_xlim())


def draw_rate(
    axes: Axes, line: Chart, style: Look, span: tuple[float, float], height: float, aside: float
) -> None:
    """Medians, joined where nothing else was searched, their intervals, and a cross where lanes were lost (a small one
    if fewer than half)."""
    bottom, top = span
    x, y, low, high = numbers(line, "x", "y", "low", "high")
    x, high = x * aside, np.where(np.isnan(high), np.inf, high)
    inside, beyond = y <= top, y > top
    apart = "also" in line
    joined: dict[str, Any] = {**style.line(), **({"linestyle": "none"} if apart else {})}
    axes.plot(x, np.where(inside, np.maximum(y, bottom), np.nan), **joined)
    axes.vlines(
        x[inside], np.maximum(low[inside], bottom / 10), np.minimum(high[inside], top),
        color=style.colour, lw=0.8, alpha=0.7, zorder=1.5,
    )  # fmt: skip
    axes.plot(x[beyond], np.full(beyond.sum(), top), "^", color=style.colour, mfc="white", ms=4.5, zorder=3)
    floor, ceiling = axes.get_ylim()
    edge = floor * (ceiling / floor) ** height
    ends = np.where(inside, np.maximum(y, bottom), np.where(beyond, top, edge))
    for i in range(len(x) - 1):
        if inside[i] != inside[i + 1] and not apart:
            axes.plot(x[i : i + 2], ends[i : i + 2], color=style.colour, lw=0.8, ls=(0, (1, 1.5)))
    for at, lost, middle in zip(x, line["lost"], y, strict=True):
        if lost:
            cross(axes, at, height, style, faint=bool(np.isfinite(middle)))
        if line["best"] is not None and at == line["best"] * aside and np.isfinite(middle):
            ring = {"marker": "o", "ms": 8.5, "mfc": "none", "mec": style.colour, "mew": 1.1, "zorder": 3}
            axes.plot([at], [max(middle, bottom)], **ring)


def draw_shares(axes: Axes, lines: Sequence[Chart], looks: Looks, percent: bool) -> None:
    """Shares that grow along a log axis; `percent` where that is a share too."""
    for place, line in enumerate(lines):
        style, (x, share) = looks[line["o"]], numbers(line, "x", "y")
        if "low" in line and len(lines) <= BANDS:
            low, high = numbers(line, "low", "high")
            axes.fill_between(x, low, high, step="post", color=style.colour, alpha=BAND, lw=0)
        every = max(1, len(x) // 5)
        marked = (place * every // len(lines), every)
        axes.plot(x, share, **style.line(), drawstyle="steps-post", markevery=marked)
    ends = min(line["x"][0] for line in lines), max(line["x"][-1] for line in lines)
    axes.set(xscale="log", xlim=ends, ylim=(0, 1.03))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    few_ticks(axes.xaxis, *axes.get_xlim(), percent=percent)
    if not percent:
        axes.set_xticks([1, 1.5, 2, 3, 4], ["1", "1.5", "2", "3", "4"])


def draw_terrain(
    axes: Axes, terrain: Chart, paths: Sequence[Chart], looks: Looks, small: bool = False
) -> None:
    """Contours, a ring at the start, a star at the minimum; paths with a marker after 1, 10 and 100 steps."""
    for line in terrain["contours"]:
        axes.plot(*line, color=CONTOUR, lw=0.6, zorder=1)
    size = 0.6 if small else 1.0
    axes.plot(*terrain["start"], marker="o", ms=7 * size, mfc="white", mec="#1a1a1a", mew=1, zorder=5)
    axes.plot(*terrain["minimum"], marker="*", ms=10 * size, mfc="#1a1a1a", mec="white", mew=0.6, zorder=5)
    axes.set(xlim=terrain["window"][0], ylim=terrain["window"][1], aspect="equal")
    axes.grid(False)
    if small:
        axes.set(xticks=[], yticks=[])
    else:
        axes.locator_params(nbins=5)
        axes.set(xlabel="x", ylabel="y")
    for path in paths:
        stations = [place for place, step in enumerate(path["steps"]) if step in terrain["stations"]]
        style: dict[str, Any] = {**looks[path["o"]].line(), "ms": 4.5}
        axes.plot(*numbers(path, "x", "y"), **style, lw=1.2, markevery=stations, zorder=3)


def draw_ranks(
    axes: Axes, ranks: Sequence[Chart], cliques: Sequence[Sequence[str]], looks: Mapping[str, Look]
) -> None:
    """Mean ranks with their intervals over problems (thin) and seeds (thick), and a bar beside each clique."""
    places = {row["optimizer"]: place for place, row in enumerate(ranks)}
    for place, row in enumerate(ranks):
        style = looks[row["optimizer"]]
        axes.plot([row["low_tasks"], row["high_tasks"]], [place, place], color=style.colour, lw=0.9)
        axes.plot([row["low"], row["high"]], [place, place], color=style.colour, lw=3.4, alpha=0.5)
        axes.plot(row["rank"], place, **{**style.line(), "linestyle": "none"}, ms=5)
    shown = [names for names in cliques if len(names) > 1]
    right = len(ranks) + 0.15
    for column, names in enumerate(shown):
        ends = [min(map(places.__getitem__, names)) - 0.25, max(map(places.__getitem__, names)) + 0.25]
        axes.plot([right + 0.12 * column] * 2, ends, color="#1a1a1a", lw=2, solid_capstyle="butt")
    axes.set_yticks(range(len(ranks)), list(places))
    axes.set(ylim=(len(ranks) - 0.5, -0.5), xlim=(0.9, right + 0.12 * len(shown) + 0.05))
    axes.locator_params(axis="x", integer=True, nbins=6)
    axes.grid(axis="x")
    axes.grid(axis="y", visible=False)


def plot(frame: Frame, metric: str | None = None) -> Figure:
    """For a notebook: the median over seeds against steps with its interval, a chart for each task.

    Raises:
        UserError: the metric is in no row.
    """
    known = {"loss", *(name.removeprefix("evaluation.") for name in frame if name.startswith("evaluation."))}
    if metric is not None and metric not in known:
        raise UserError(f"metric {metric!r} is in no row. {nearest(metric, known)}")
    tasks = list(dict.fromkeys(frame["task"]))
    figure = Figure(figsize=(4.5 * min(3, len(tasks)), 3.2 * -(-len(tasks) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(tasks) // 3), min(3, len(tasks)), squeeze=False).flat
    for axis, task in zip(axes, tasks, strict=False):
        rows = frame[frame["task"] == task]
        shown = metric or question_of(rows).selection
        for name, look in looks_of(rows["optimizer"]).items():
            line = curve(chosen(rows[rows["optimizer"] == name]), shown).replace([math.inf], math.nan)
            axis.plot(line["step"], line["middle"], color=look.colour, linestyle=look.dash, label=name)
            axis.fill_between(line["step"], line["low"], line["high"], color=look.colour, alpha=0.15, lw=0)
        axis.set(title=task, xlabel="step", ylabel=spoken(shown))
        if all((line.get_ydata() > 0).any() for line in axis.lines):  # pyright: ignore
            axis.set_yscale("log", nonpositive="mask")
        axis.legend(fontsize="small", frameon=False)
    return figure
