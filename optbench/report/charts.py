"""What the charts show, as JSON data: medians and bands, never cells, so that its size stays small.

Made once: the page's script draws it, and `report.axes` draws it on paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from optbench.cell import FINISHED
from optbench.report.look import Look
from optbench.report.paths import STATIONS, Terrain
from optbench.report.paths import thinned as thinned_steps
from optbench.report.problem import Problem
from optbench.report.standing import Standing
from optbench.stats import Frame
from optbench.stats.tunability import best_of_trials
from optbench.wording import spoken

POINTS = 120
"""How many points of a curve are kept; a panel is about 500 pixels wide."""
PARTS = ((1,), (1, 3), (1, 2, 5))
"""Where a decade has ticks, from few to many."""
NARROWEST = 2.0
"""How many times apart the ends of an axis are at least, so that noise does not fill it."""


def data(
    looks: Mapping[str, Look], problems: Sequence[Problem], summary: Frame, standings: Mapping[str, Standing],
    terrains: Sequence[Terrain],
) -> dict[str, Any]:  # fmt: skip
    """All that is drawn: how optimizers look, and what there is of each problem."""
    places = {name: place for place, name in enumerate(looks)}
    rows = {key: part.set_index("optimizer") for key, part in summary.groupby("problem", sort=False)}
    tuning = best_of_trials(standings["steps"].outcomes)
    trials = {key: part for key, part in tuning.groupby("problem", sort=False)}
    return {
        "optimizers": [appearance(name, style) for name, style in looks.items()],
        "terrains": [of_terrain(terrain, places) for terrain in terrains],
        "standings": {axis: of_standing(standing, places) for axis, standing in standings.items()},
        "problems": [
            of_problem(problem, rows[problem.name], trials.get(problem.name), places) for problem in problems
        ],
    }


def of_terrain(terrain: Terrain, places: dict[str, int]) -> dict[str, Any]:
    """Contours and paths."""
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
    from matplotlib.markers import MarkerStyle

    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform())
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    # A marker of size s spans s points; circles have radius 0.5, others come in their own units.
    size = 1 / max(1e-9, float(np.abs(path.vertices).max()))
    parts = []
    for numbers, kind in path.iter_segments(simplify=False):
        points = (
            ""
            if kind == path.CLOSEPOLY
            else ",".join(f"{round(v * size, 3) + 0.0:g}" for v in flipped(numbers))
        )
        parts.append(letters[int(kind)] + points)
    return "".join(parts)


def flipped(numbers: np.ndarray) -> np.ndarray:
    """Points with y downwards, as on a screen."""
    return np.asarray(numbers, float) * np.tile([1.0, -1.0], len(numbers) // 2)


def of_problem(
    problem: Problem, summary: Frame, tuning: Frame | None, places: dict[str, int]
) -> dict[str, Any]:
    """Curves of each metric, final values by learning rate, and what turns steps into seconds and gradients."""
    return {
        "name": problem.name,
        "progress": [progress(problem, metric, places) for metric in problem.metrics],
        "lost": [[places[name], step] for name, step in ends(problem)],
        "seconds": [per_step(summary, name, "microseconds", 1e-6) for name in places],
        "gradients": [per_step(summary, name, "gradients_per_step", 1.0) for name in places],
        "rates": rates(problem, places),
        "trials": trials_of(tuning, places),
    }


def per_step(summary: Frame, name: str, column: str, unit: float) -> float | None:
    """What one step of an optimizer takes."""
    return short(summary.loc[name, column] * unit) if name in summary.index else None


def ends(problem: Problem) -> Iterable[tuple[str, int]]:
    """Where lanes at the best learning rate diverged or failed."""
    for name, rows in problem.best.items():
        lost = rows[~rows["status"].isin(FINISHED)]
        yield from ((name, len(losses)) for losses in lost["losses"])


def progress(problem: Problem, metric: str, places: dict[str, int]) -> dict[str, Any]:
    """Median and band over seeds against steps, for each optimizer at its best learning rate."""
    curves = {
        name: thinned(curve[np.isfinite(curve["middle"])]) for name, curve in problem.curves(metric).items()
    }
    bottom, top = span(problem.curves(metric))
    lines = []
    for name, shown in curves.items():
        if shown.empty:
            continue
        middle, low, high = (
            np.maximum(shown[key].to_numpy(float), bottom / 10) for key in ("middle", "low", "high")
        )
        lines.append({
            "o": places[name], "x": shown["step"].astype(int).tolist(), "y": shorts(middle), "low": shorts(low),
            "high": shorts(np.minimum(high, top * 1e3)), "end": stop(middle, problem, metric),
        })  # fmt: skip
    targets = [target.value for target in problem.question.targets if target.metric == metric]
    sighted = [short(value) for value in targets if value >= bottom / 2]
    return {**scale(metric, bottom, top), "targets": sighted, "lines": lines}


def stop(middles: np.ndarray, problem: Problem, metric: str) -> int:
    """How many points a median is drawn for: up to the final target, where its lanes stopped."""
    final = [target.value for target in problem.question.targets if target.final and target.metric == metric]
    hits = np.flatnonzero(middles <= final[-1]) if final else np.zeros(0)
    return int(hits[0]) + 1 if len(hits) else len(middles)


def span(curves: Mapping[str, Frame]) -> tuple[float, float]:
    """The values worth showing; a spike far above the start is cut, so that it does not flatten the rest."""
    shown = [curve[np.isfinite(curve["middle"])] for curve in curves.values()]
    starts = [float(curve["middle"].iloc[0]) for curve in shown if len(curve)]
    return ends_of(shown, 30 * max(starts, default=math.inf))


def sensitivity_span(problem: Problem) -> tuple[float, float]:
    """From the least median to well above where training starts; what is worse is marked at the upper end."""
    curves = problem.curves(problem.question.selection).values()
    starts = positive([curve["middle"].to_numpy(float)[:1] for curve in curves])
    return ends_of(problem.sensitivities.values(), 100 * float(starts.max()) if len(starts) else math.inf)


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
    return values[np.isfinite(values) & (values > 0)]


def rates(problem: Problem, places: dict[str, int]) -> dict[str, Any]:
    """Final value of the selection metric at each learning rate."""
    bottom, top = sensitivity_span(problem)
    lines = []
    for name, table in problem.sensitivities.items():
        best = problem.best[name]["trial"].iloc[0]
        lines.append({
            "o": places[name], "x": shorts(table["trial"]), "y": shorts(table["middle"]),
            "low": shorts(table["low"]), "high": shorts(table["high"]),
            "lost": table["lost"].astype(int).tolist(), "lanes": table["lanes"].astype(int).tolist(),
            "best": None if name in problem.never else short(best),
        })  # fmt: skip
    return {**scale(problem.question.selection, bottom, top), "range": [bottom, top], "lines": lines}


def trials_of(tuning: Frame | None, places: dict[str, int]) -> list[dict[str, Any]]:
    """The median best of k trials, for each optimizer that has several."""
    if tuning is None:
        return []
    return [
        {"o": places[str(name)], "x": rows["k"].astype(int).tolist(), "y": shorts(rows["middle"]),
         "low": shorts(rows["low"]), "high": shorts(rows["high"])}
        for name, rows in tuning.groupby("optimizer", sort=False) if len(rows) > 1
    ]  # fmt: skip


def of_standing(standing: Standing, places: dict[str, int]) -> dict[str, Any] | None:
    """Performance profiles and runtime distributions; nothing where nobody is ranked."""
    if standing.refusals:
        return None
    return {
        "profiles": shares(standing.profiles, "ratio", places),
        "reached": shares(standing.distributions, "spent", places),
    }


def shares(found: Frame, x: str, places: dict[str, int]) -> list[dict[str, Any]]:
    """A share that grows along x, for each optimizer."""
    return [
        {"o": places[str(name)], "x": shorts(rows[x]), "y": shorts(rows["share"]),
         **{end: shorts(rows[end]) for end in ("low", "high") if end in rows}}
        for name, rows in found.groupby("optimizer", sort=False)
    ]  # fmt: skip


def scale(metric: str, bottom: float, top: float) -> dict[str, Any]:
    """A log axis: what it measures, where it ends, where its ticks are."""
    room = (top / bottom) ** 0.05
    low, high = bottom / room, top * room
    marks = {"span": [short(low), short(high)], "ticks": ticks(low, high)}
    return {"label": spoken(metric), "percent": metric.endswith("error"), **marks}


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


def thinned(curve: Frame, points: int = POINTS) -> Frame:
    """As many rows as are drawn, the first and last among them."""
    if len(curve) <= points:
        return curve
    return curve.iloc[np.unique(np.linspace(0, len(curve) - 1, points).round().astype(int))]


def short(value: Any) -> float | None:
    """Four digits, or nothing where there is no finite number: JSON knows no infinity."""
    return float(f"{float(value):.4g}") if value is not None and math.isfinite(float(value)) else None


def shorts(values: Iterable[float]) -> list[float | None]:
    """The same for each."""
    return [short(value) for value in values]
