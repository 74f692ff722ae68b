"""Drawing the data of a chart (`report.charts`) on axes for print, as charts.js draws them on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from optbench.report.charts import ticks
from optbench.report.look import Look

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
    axes.set_xlim(
        0, 1.015 * max([1, *(x for line in chart["lines"] for x in line["x"][-1:]), *(s for _, s in lost)])
    )


def log_scale(axes: Axes, chart: Chart) -> None:
    axes.set_yscale("log")
    axes.set_ylim(*chart["span"])
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
    make_strip(axes, row * len(losing))
    for place, line in enumerate(lines):
        style = looks[line["o"]]
        if None in line["x"]:  # nothing to sweep: the same value everywhere
            axes.axhline(numbers(line, "y")[0][0], color=style.colour, linestyle=style.dash, lw=1)
            continue
        height = 1 - row * (losing.index(line["o"]) + 0.5) if line["o"] in losing else 1.0
        # A little sideways, so that bars at one learning rate do not hide each other.
        aside = 10 ** (min(0.018, 0.1 / len(lines)) * (place - (len(lines) - 1) / 2))
        draw_rate(axes, line, style, chart["range"], height, aside)
    few_ticks(axes.xaxis, *axes.get_xlim())


def make_strip(axes: Axes, share: float) -> None:
    """Room along the top edge for what has no value, shaded since the scale does not apply to it."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, low * (high / low) ** (1 / (1 - share)))
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in axes.get_yticks() if low <= tick <= high]))
    if share:
        axes.axhspan(high, axes.get_ylim()[1], color=STRIP, lw=0, zorder=0.2)


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
    for at, middle in zip(x, y, strict=True):
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
    axes.set_xscale("log")
    axes.set_xlim(min(line["x"][0] for line in lines), max(line["x"][-1] for line in lines))
    axes.set_ylim(0, 1.03)
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
    axes.set_xlim(*terrain["window"][0])
    axes.set_ylim(*terrain["window"][1])
    axes.set_aspect("equal")
    axes.grid(False)
    if small:
        axes.set_xticks([])
        axes.set_yticks([])
    else:
        axes.locator_params(nbins=5)
        axes.set_xlabel("x")
        axes.set_ylabel("y")
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
    axes.set_ylim(len(ranks) - 0.5, -0.5)
    axes.set_xlim(0.9, right + 0.12 * len(shown) + 0.05)
    axes.locator_params(axis="x", integer=True, nbins=6)
    axes.grid(axis="x")
    axes.grid(axis="y", visible=False)
