"""What one pair of axes shows. Every function draws on axes that it is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from optbench.cell import Status
from optbench.report.look import Look, look
from optbench.report.problem import Problem
from optbench.stats import Frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY = "#8a8a8a"
BAND = 0.16
"""Opacity of a band."""
STRIP = "#f3f3f3"
PARTS = ((1,), (1, 3), (1, 2, 5))
"""Where a decade has ticks, from few to many."""
NARROWEST = 2.0
"""How many times apart the ends of an axis are at least, so that noise does not fill it."""


def draw_curves(axes: Axes, problem: Problem, metric: str, targets: bool = True) -> None:
    """Median and band over seeds against steps at each optimizer's best learning rate."""
    curves = problem.curves(metric)
    bottom, top = span(curves)
    if targets:
        draw_targets(axes, problem, metric, bottom)
    for place, (name, curve) in enumerate(curves.items()):
        style, shown = look(name), curve[np.isfinite(curve["middle"])]
        if shown.empty:
            continue
        steps, low, mid, high = (shown[key].to_numpy(float) for key in ("step", "low", "middle", "high"))
        floor, ceiling = bottom / 10, top * 1e3  # off the panel; zeros have no place on a log scale
        low, mid, high = np.maximum(low, floor), np.maximum(mid, floor), np.clip(high, floor, ceiling)
        axes.fill_between(steps, low, high, color=style.colour, alpha=BAND, lw=0)
        end = stop(mid, problem, metric)
        every = max(1, end // 6)
        # Markers start at different places, so that curves that run together keep theirs apart.
        marked = [*range(place * every // len(curves), end - 1 - every // 2, every), end - 1]
        axes.plot(steps[:end], mid[:end], **style.line(), markevery=marked)
    mark_lost(axes, problem)
    finish(axes, bottom, top, metric)
    last = max([*(float(curve["step"].max()) for curve in curves.values() if len(curve)), 1.0])
    axes.set_xlim(0, last * 1.015)


def stop(middles: np.ndarray, problem: Problem, metric: str) -> int:
    """How many points a median is drawn for: up to the final target, where its lanes stopped."""
    final = [target.value for target in problem.question.targets if target.final and target.metric == metric]
    hits = np.flatnonzero(middles <= final[-1]) if final else np.zeros(0)
    return int(hits[0]) + 1 if len(hits) else len(middles)


def span(curves: Mapping[str, Frame]) -> tuple[float, float]:
    """The values worth showing; a spike far above the start is cut, so that it does not flatten the rest."""
    shown = [curve[np.isfinite(curve["middle"])] for curve in curves.values()]
    starts = [float(curve["middle"].iloc[0]) for curve in shown if len(curve)]
    medians, lows = (positive([curve[key].to_numpy(float) for curve in shown]) for key in ("middle", "low"))
    if not len(medians):
        return 1e-1, 1.0
    bottom = max(float(lows.min()), float(medians.min()) / 5)
    return bottom, max(bottom * NARROWEST, min(float(medians.max()), 30 * max(starts)))


def positive(parts: list[np.ndarray]) -> np.ndarray:
    """The values that a log scale can show."""
    values = np.concatenate([*parts, np.zeros(0)])
    return values[np.isfinite(values) & (values > 0)]


def finish(axes: Axes, bottom: float, top: float, metric: str) -> None:
    """Log scale, limits with a margin, few ticks."""
    axes.set_yscale("log")
    room = (top / bottom) ** 0.05
    axes.set_ylim(bottom / room, top * room)
    few_ticks(axes.yaxis, bottom / room, top * room, percent=metric.endswith("error"))


def few_ticks(axis: Any, low: float, high: float, percent: bool = False) -> None:
    """Ticks at powers of ten, or between them too where there are few."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(ticks(low, high)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%" if percent else tick(value)))
    axis.set_minor_locator(NullLocator())


def ticks(low: float, high: float, least: int = 3, most: int = 6) -> list[float]:
    """Powers of ten, every so many where they are more than `most`; steps between where they are less than `least`."""
    decades = math.log10(high / low)
    every = max(1, math.ceil(decades / most))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in PARTS[2 if decades < 1.3 else 1 if decades < 2.6 else 0 :]:
        values = [float(f"{part}e{power}") for power in powers if power % every == 0 for part in parts]
        values = [value for value in values if low <= value <= high]
        if len(values) >= least:
            return values
    return even_ticks(low, high, least, most)


def even_ticks(low: float, high: float, least: int, most: int) -> list[float]:
    """Round numbers at even distances, in a range too narrow for the parts of a decade."""
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(most - 1, steps=[1, 2, 5, 10], min_n_ticks=least).tick_values(low, high)
    return [float(f"{value:.6g}") for value in found if low <= value <= high]


def tick(value: float) -> str:
    """A power of ten as one where it is far from 1, else a plain number; the page's script writes the same."""
    power = math.log10(value)
    if abs(power - round(power)) < 1e-6 and not -2 <= round(power) <= 3:
        return "10" + str(round(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{float(f'{value:.3g}'):g}"


def draw_targets(axes: Axes, problem: Problem, metric: str, bottom: float) -> None:
    """A thin line for each target within sight."""
    for target in problem.question.targets:
        if target.metric == metric and target.value >= bottom / 2:
            axes.axhline(target.value, color=GREY, lw=0.9, ls=(0, (3, 2)), zorder=1)


def mark_lost(axes: Axes, problem: Problem) -> None:
    """A cross at the top edge where a lane diverged or failed."""
    for name, rows in problem.best.items():
        lost = rows[~rows["status"].isin([Status.DONE, Status.REACHED])]
        for losses in lost["losses"]:
            cross(axes, len(losses), 0.97, look(name), across(axes))


def cross(axes: Axes, x: float, y: float, style: Look, transform: Any, faint: bool = False) -> None:
    """The sign of what diverged or failed."""
    axes.plot(
        [x], [y], marker="x", ms=3.6 if faint else 5, mew=0.9 if faint else 1.4, color=style.colour,
        transform=transform, clip_on=False, zorder=4, linestyle="none",
    )  # fmt: skip


def draw_sensitivity(axes: Axes, problem: Problem) -> None:
    """Final value of the selection metric against the learning rate; lost lanes in a strip along the top edge."""
    found = problem.sensitivities
    bottom, top = sensitivity_span(found, problem)
    losing = [name for name, table in found.items() if (table["lost"] > 0).any()]
    row = min(0.075, 0.32 / max(1, len(losing)))
    axes.set_xscale("log")
    finish(axes, bottom, top, problem.question.selection)
    make_strip(axes, row * len(losing))
    for place, (name, table) in enumerate(found.items()):
        if table["trial"].isna().any():  # nothing to sweep: the same value wherever one looks
            axes.axhline(table["middle"].iloc[0], color=look(name).colour, linestyle=look(name).dash, lw=1)
            continue
        height = 1 - row * (losing.index(name) + 0.5) if name in losing else 1.0
        aside = aside_of(place, len(found))
        draw_one(axes, table.assign(trial=table["trial"] * aside), look(name), (bottom, top), height)
        mark_best(axes, problem, name, bottom, aside)
    x_ticks(axes)


def aside_of(place: int, count: int) -> float:
    """A factor that moves points a little sideways, so that bars at one learning rate do not hide each other."""
    return 10 ** (min(0.018, 0.1 / count) * (place - (count - 1) / 2))


def make_strip(axes: Axes, share: float) -> None:
    """Room along the top edge for what has no value, shaded so that nobody reads it against the scale."""
    from matplotlib.ticker import FixedLocator

    low, high = axes.get_ylim()
    axes.set_ylim(low, low * (high / low) ** (1 / (1 - share)))
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    if share:
        axes.axhspan(high, axes.get_ylim()[1], color=STRIP, lw=0, zorder=0.2)


def draw_one(axes: Axes, table: Frame, style: Look, span_: tuple[float, float], height: float) -> None:
    """Medians joined, intervals as thin bars, and a cross where lanes were lost (a small one if fewer than half)."""
    bottom, top = span_
    trials, middles, lows, highs = (
        table[name].to_numpy(float) for name in ("trial", "middle", "low", "high")
    )
    inside = middles <= top
    beyond = np.isfinite(middles) & ~inside
    axes.plot(trials, np.where(inside, np.maximum(middles, bottom), np.nan), **style.line())
    axes.vlines(
        trials[inside], np.maximum(lows[inside], bottom / 10), np.minimum(highs[inside], top),
        color=style.colour, lw=0.8, alpha=0.7, zorder=1.5,
    )  # fmt: skip
    axes.plot(
        trials[beyond], np.full(beyond.sum(), top), "^", color=style.colour, mfc="white", ms=4.5, zorder=3
    )
    low, high = axes.get_ylim()
    edge = low * (high / low) ** height
    ends = np.where(inside, np.maximum(middles, bottom), np.where(beyond, top, edge))
    for i in range(len(trials) - 1):
        if inside[i] != inside[i + 1]:
            axes.plot(trials[i : i + 2], ends[i : i + 2], color=style.colour, lw=0.8, ls=(0, (1, 1.5)))
    for trial, lost, middle in zip(trials, table["lost"], middles, strict=True):
        if lost:
            cross(axes, trial, height, style, across(axes), faint=bool(np.isfinite(middle)))


def across(axes: Axes) -> Any:
    """Data along the width, fractions of the panel along the height."""
    from matplotlib.transforms import blended_transform_factory

    return blended_transform_factory(axes.transData, axes.transAxes)


def x_ticks(axes: Axes) -> None:
    """Powers of ten along the width, nothing between."""
    few_ticks(axes.xaxis, *axes.get_xlim())


def mark_best(axes: Axes, problem: Problem, name: str, bottom: float, aside: float) -> None:
    """A ring around the best learning rate."""
    trial = problem.best[name]["trial"].iloc[0]
    table = problem.sensitivities[name]
    value = float(table.loc[table["trial"] == trial, "middle"].iloc[0])
    if math.isfinite(value):
        axes.plot(
            [trial * aside],
            [max(value, bottom)],
            marker="o",
            ms=8.5,
            mfc="none",
            mec=look(name).colour,
            mew=1.1,
            zorder=3,
        )


def sensitivity_span(found: Mapping[str, Frame], problem: Problem) -> tuple[float, float]:
    """From the least median to well above where training starts; what is worse is marked at the upper end."""
    medians = positive([table["middle"].to_numpy(float) for table in found.values()])
    lows = positive([table["low"].to_numpy(float) for table in found.values()])
    if not len(medians):
        return 1e-1, 1.0
    bottom = max(float(lows.min()), float(medians.min()) / 5)
    curves = problem.curves(problem.question.selection).values()
    starts = positive([curve["middle"].to_numpy(float)[:1] for curve in curves])
    ceiling = 100 * float(starts.max()) if len(starts) else math.inf
    return bottom, max(bottom * NARROWEST, min(float(medians.max()), ceiling))
