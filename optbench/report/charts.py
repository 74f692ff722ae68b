"""The data of the charts, as JSON: medians and bands, never cells, so that a page stays small.

Made once: charts.js draws it on the page, and `report.figures` for print.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import MaxNLocator

from optbench.cell import FINISHED
from optbench.report.look import Look
from optbench.report.paths import STATIONS, Terrain
from optbench.report.paths import thinned as thinned_steps
from optbench.report.problem import Problem
from optbench.stats import Frame
from optbench.stats.curves import by_lane
from optbench.stats.outcomes import trying
from optbench.stats.tunability import best_of_trials
from optbench.wording import spoken

POINTS = 120
"""How many points of a curve are kept; a panel is about 500 pixels wide."""
FEWER = 60
"""The same where there are more optimizers than are drawn in colour."""
PARTS = ((1,), (1, 3), (1, 2, 5))
"""Where a decade has ticks, from few to many."""
MANY = 12
"""More optimizers than this are not all drawn in colour."""
WORSE = 1.25
"""How many times the first value of training a final value may be to have a place on its axis."""
NARROWEST = 1.25
"""How many times apart the ends of an axis are at least, so that noise does not fill it."""
FARTHEST = 1e-200, 1e200
"""Where an axis ends at the latest: a power of what lies beyond is no number."""


def of_problems(
    problems: Sequence[Problem], summary: Frame, outcomes: Frame, places: dict[str, int]
) -> list[dict[str, Any]]:
    """The data of each problem's charts: training curves, final values by learning rate, best of k trials."""
    rows = {key: part.set_index("optimizer") for key, part in summary.groupby("problem", sort=False)}
    tuned = best_of_trials(outcomes).query("trials > 1")
    return [
        {
            "training": training(problem, rows[problem.name], places),
            "rates": rates(problem, places),
            "trials": trials(problem, tuned[tuned["problem"] == problem.name], places),
        }
        for problem in problems
    ]


def of_terrain(terrain: Terrain, places: dict[str, int]) -> dict[str, Any]:
    paths = []
    for path in terrain.paths:
        steps = thinned_steps(path.points)
        x, y = path.points[steps].T
        paths.append({
            "o": places[path.optimizer], "steps": steps.tolist(), "x": shorts(x), "y": shorts(y),
            "height": shorts(terrain.surface.height(x, y)), "trial": short(path.trial),
        })  # fmt: skip
    return {
        "name": terrain.name, "window": [[short(low), short(high)] for low, high in terrain.window],
        "start": shorts(terrain.surface.start), "minimum": list(terrain.surface.minimum),
        "contours": [line.T.round(3).tolist() for line in terrain.contours], "stations": list(STATIONS),
        "paths": paths,
    }  # fmt: skip


def appearance(name: str, style: Look) -> dict[str, Any]:
    """Name, colour, dashes and marker, for a legend and for lines."""
    dash, shape = list(style.dash[1]), outline(style.marker)
    return {"name": name, "hue": style.hue, "dash": dash, "shape": shape, "hollow": style.hollow}


def outline(marker: str) -> str:
    """A marker of matplotlib as an SVG path in [-1, 1], so that paper and page have the same."""
    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform())
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    # A marker of size s spans s points; circles have radius 0.5, others come in their own units.
    size = 1 / max(1e-9, float(np.abs(path.vertices).max()))
    parts = []
    for numbers, kind in path.iter_segments(simplify=False):
        # Points with y downwards, as on a screen.
        scaled = np.asarray(numbers, float) * np.tile([size, -size], len(numbers) // 2)
        points = "" if kind == path.CLOSEPOLY else ",".join(f"{round(v, 3) + 0.0:g}" for v in scaled)
        parts.append(letters[int(kind)] + points)
    return "".join(parts)


def training(problem: Problem, summary: Frame, places: dict[str, int]) -> dict[str, Any]:
    """Curves of each metric, and what turns steps into seconds and gradients."""

    def per_step(column: str, unit: float) -> list[float | None]:
        return [short(summary[column].get(name, math.nan) * unit) for name in places]

    return {
        "progress": [progress(problem, metric, places) for metric in problem.metrics],
        "lost": [
            [places[name], len(losses)]
            for name, rows in problem.best.items()
            for status, losses in zip(rows["status"], rows["losses"], strict=True)
            if status not in FINISHED
        ],
        "seconds": per_step("microseconds", 1e-6),
        "gradients": per_step("gradients_per_step", 1.0),
    }


def progress(problem: Problem, metric: str, places: dict[str, int]) -> dict[str, Any]:
    """Median and band over seeds against steps, for each optimizer at its best learning rate."""
    finite = {name: curve[np.isfinite(curve["middle"])] for name, curve in problem.curves[metric].items()}
    bottom, top = span(finite.values())
    points = POINTS if len(places) <= MANY else FEWER
    shown = []
    for name, curve in finite.items():
        if curve.empty:
            continue
        drawn = thinned(curve, points)
        middle, low, high = np.maximum(drawn[["middle", "low", "high"]].to_numpy(float).T, bottom / 10)
        ends = {"step": drawn["step"], "middle": middle, "low": low, "high": np.minimum(high, top * 1e3)}
        lanes = problem.best[name]
        cell = str(lanes["cell"].iloc[lanes["seed"].argmin()])
        facts: dict[str, Any] = {"end": stop(middle, problem, metric), "cell": cell}
        if len(places) <= MANY:
            few = drawn["step"].to_numpy()[:: -(-len(drawn) // FEWER)]
            seeds = by_lane(lanes, metric, few) if len(lanes) > 1 else ()
            facts |= {"steps": few.tolist(), "seeds": [shorts(values) for values in seeds]}
            facts["others"] = other_trials(problem.optimizers[name], lanes, metric, few)
        shown.append({**line(ends, places[name], "step", "middle"), **facts})
    targets = [target.value for target in problem.question.targets if target.metric == metric]
    visible = [short(value) for value in targets if value >= bottom / 2]
    return {**scale(metric, bottom, top), "targets": visible, "lines": shown}


def other_trials(rows: Frame, best: Frame, metric: str, steps: np.ndarray) -> list[list[float | None]]:
    """The medians of the trials that are not the best one."""
    others = trying(rows[rows["trial"] != best["trial"].iloc[0]])
    return [shorts(np.median(by_lane(lanes, metric, steps), axis=0)) for _, lanes in others.groupby("trial")]


def stop(middles: np.ndarray, problem: Problem, metric: str) -> int:
    """How many points a median is drawn for: up to the final target, where its lanes stopped."""
    final = [target.value for target in problem.question.targets if target.final and target.metric == metric]
    hits = np.flatnonzero(middles <= final[-1]) if final else np.zeros(0)
    return int(hits[0]) + 1 if len(hits) else len(middles)


def span(curves: Collection[Frame]) -> tuple[float, float]:
    """The values worth showing; a spike far above the start is cut, so that it does not flatten the rest."""
    starts = [float(curve["middle"].iloc[0]) for curve in curves if len(curve)]
    return ends_of(curves, 30 * max(starts, default=math.inf))


def sensitivity_span(problem: Problem) -> tuple[float, float]:
    """From the least median to above where training starts; what is worse is marked at the upper end."""
    curves = problem.curves[problem.question.selection].values()
    starts = positive([curve["middle"].to_numpy(float)[:1] for curve in curves])
    return ends_of(problem.sensitivities.values(), WORSE * float(starts.max()) if len(starts) else math.inf)


def ends_of(tables: Iterable[Frame], ceiling: float) -> tuple[float, float]:
    """The ends of an axis that shows medians and, near them, their intervals."""
    medians, lows = (positive([each[key].to_numpy(float) for each in tables]) for key in ("middle", "low"))
    if not len(medians):
        return 1e-1, 1.0
    bottom = max(float(lows.min()), float(medians.min()) / 5)
    return bottom, max(bottom * NARROWEST, min(float(medians.max()), ceiling))


def positive(parts: list[np.ndarray]) -> np.ndarray:
    """The values that a log scale can show."""
    values = np.concatenate([*parts, np.zeros(0)])
    return values[(values > FARTHEST[0]) & (values < FARTHEST[1])]


def rates(problem: Problem, places: dict[str, int]) -> dict[str, Any]:
    """Final values at each trial's learning rate; `also` is what else was searched, and then no line joins trials."""
    bottom, top = sensitivity_span(problem)
    shown, lanes = [], trying(problem.rows).sort_values("seed", kind="stable")
    more = lanes["hyperparameters"].fillna("").astype(str) if "hyperparameters" in lanes else None
    lanes = lanes.assign(also="" if more is None else more.str.partition(", ")[2])
    firsts = lanes.groupby(["optimizer", "trial"], dropna=False)[["cell", "also"]].first()
    for name, table in problem.sensitivities.items():
        best = None if name in problem.failed else short(problem.best[name]["trial"].iloc[0])
        counts = {key: table[key].astype(int).tolist() for key in ("lost", "lanes")}
        first = firsts.loc[name]
        points = {"best": best, "cells": first["cell"].tolist()}
        points |= {"also": first["also"].tolist()} if first["also"].any() else {}
        shown.append({**line(table, places[name], "trial", "middle"), **counts, **points})
    return {**scale(problem.question.selection, bottom, top), "range": [bottom, top], "lines": shown}


def trials(problem: Problem, tuned: Frame, places: dict[str, int]) -> dict[str, Any]:
    """The best of k trials, on an axis of its own: single trials may be far worse."""
    axis = scale(problem.question.selection, *ends_of([tuned], math.inf))
    return {**axis, "lines": lines(tuned, "k", "middle", places)}


def lines(table: Frame, x: str, y: str, places: dict[str, int]) -> list[dict[str, Any]]:
    return [line(rows, places[str(name)], x, y) for name, rows in table.groupby("optimizer", sort=False)]


def line(table: Mapping[str, Any], place: int, x: str, y: str) -> dict[str, Any]:
    """Two columns of a table, with an interval if it has one."""
    columns = {"x": x, "y": y, "low": "low", "high": "high"}
    return {"o": place, **{key: shorts(table[name]) for key, name in columns.items() if name in table}}


def scale(metric: str, bottom: float, top: float) -> dict[str, Any]:
    """A log axis: what it measures, where it ends, where its ticks are."""
    room = math.exp(0.05 * (math.log(top) - math.log(bottom)))
    low, high = max(bottom / room, FARTHEST[0]), min(top * room, FARTHEST[1])
    marks = {"span": [short(low), short(high)], "ticks": ticks(low, high)}
    return {"label": spoken(metric), "percent": metric.endswith("error"), **marks}


def ticks(low: float, high: float, least: int = 3, most: int = 6) -> list[float]:
    """Powers of ten, every so many where they are more than `most`; steps between where they are less than `least`."""
    decades = math.log10(high) - math.log10(low)
    every = max(1, math.ceil(decades / most))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in PARTS[2 if decades < 1.3 else 1 if decades < 2.6 else 0 :]:
        values = [float(f"{part}e{power}") for power in powers if power % every == 0 for part in parts]
        values = [value for value in values if low <= value <= high]
        if len(values) >= least:
            return values
    # Round numbers at even distances, in a range too narrow for the parts of a decade.
    found = MaxNLocator(most - 1, steps=[1, 2, 5, 10], min_n_ticks=least).tick_values(low, high)
    return [float(f"{value:.6g}") for value in found if low <= value <= high]


def thinned(curve: Frame, points: int = POINTS) -> Frame:
    """As many rows as are drawn, the first and last among them."""
    if len(curve) <= points:
        return curve
    return curve.iloc[np.unique(np.linspace(0, len(curve) - 1, points).round().astype(int))]


def short(value: Any) -> float | None:
    """Four digits, or nothing where there is no finite number: JSON knows no infinity."""
    return float(f"{float(value):.4g}") if value is not None and math.isfinite(float(value)) else None


def shorts(values: Iterable[float]) -> list[float | None]:
    return [short(value) for value in values]
