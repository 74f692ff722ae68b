"""What the charts of the page show, as JSON data: medians and bands, never cells, so that its size stays small."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from optbench.cell import Status
from optbench.report.content import Content
from optbench.report.look import look
from optbench.report.panels import sensitivity_span, span, stop, ticks
from optbench.report.paths import STATIONS, Terrain
from optbench.report.paths import thinned as thinned_steps
from optbench.report.problem import Problem, spoken
from optbench.report.standing import Standing
from optbench.stats import Frame
from optbench.stats.tunability import best_of_trials

POINTS = 120
"""How many points of a curve are kept; a panel is about 500 pixels wide."""


def data(content: Content) -> dict[str, Any]:
    """All that the page's script needs: how optimizers look, and what is drawn of each problem."""
    places = {name: place for place, name in enumerate(content.optimizers)}
    rows = {key: part.set_index("optimizer") for key, part in content.summary.groupby("problem", sort=False)}
    tuning = best_of_trials(content.standings["steps"].outcomes)
    trials = {key: part for key, part in tuning.groupby("problem", sort=False)}
    return {
        "optimizers": [appearance(name) for name in content.optimizers],
        "terrains": [of_terrain(terrain, places) for terrain in content.terrains],
        "standings": {axis: of_standing(standing, places) for axis, standing in content.standings.items()},
        "problems": [
            of_problem(problem, rows[problem.name], trials.get(problem.name), places)
            for problem in content.problems
        ],
    }


def of_terrain(terrain: Terrain, places: dict[str, int]) -> dict[str, Any]:
    """Contours and paths."""
    paths = []
    for path in terrain.paths:
        steps = thinned_steps(path.points)
        x, y = path.points[steps].T
        paths.append(
            {
                "o": places[path.optimizer],
                "steps": steps.tolist(),
                "x": shorts(x),
                "y": shorts(y),
                "height": shorts(terrain.surface.height(x, y)),
                "trial": short(path.trial),
            }
        )
    return {
        "name": terrain.name,
        "window": [[short(low), short(high)] for low, high in terrain.window],
        "start": shorts(terrain.surface.start),
        "minimum": list(terrain.surface.minimum),
        "contours": [line.T.round(3).tolist() for line in terrain.contours],
        "stations": list(STATIONS),
        "paths": paths,
    }


def appearance(name: str) -> dict[str, Any]:
    """Name, colour, dashes and marker, for a legend and for lines."""
    style = look(name)
    return {
        "name": name,
        "hue": style.hue,
        "dash": list(style.dash[1]),
        "shape": outline(style.marker),
        "hollow": style.hollow,
    }


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
        lost = rows[~rows["status"].isin([Status.DONE, Status.REACHED])]
        yield from ((name, len(losses)) for losses in lost["losses"])


def progress(problem: Problem, metric: str, places: dict[str, int]) -> dict[str, Any]:
    """Median and band over seeds against steps, for each optimizer at its best learning rate."""
    curves = problem.curves(metric)
    bottom, top = span(curves)
    lines = []
    for name, curve in curves.items():
        shown = thinned(curve[np.isfinite(curve["middle"])])
        if shown.empty:
            continue
        values = {
            key: np.maximum(shown[key].to_numpy(float), bottom / 10) for key in ("middle", "low", "high")
        }
        lines.append(
            {
                "o": places[name],
                "x": shown["step"].astype(int).tolist(),
                "y": shorts(values["middle"]),
                "low": shorts(values["low"]),
                "high": shorts(np.minimum(values["high"], top * 1e3)),
                "end": stop(values["middle"], problem, metric),
            }
        )
    targets = [target.value for target in problem.question.targets if target.metric == metric]
    return {
        **scale(metric, bottom, top),
        "targets": [short(value) for value in targets if value >= bottom / 2],
        "lines": lines,
    }


def rates(problem: Problem, places: dict[str, int]) -> dict[str, Any]:
    """Final value of the selection metric at each learning rate."""
    found = problem.sensitivities
    bottom, top = sensitivity_span(found, problem)
    lines = []
    for name, table in found.items():
        middle = table["middle"].to_numpy(float)
        best = problem.best[name]["trial"].iloc[0]
        lines.append(
            {
                "o": places[name],
                "x": shorts(table["trial"].to_numpy(float)),
                "y": shorts(middle),
                "low": shorts(table["low"].to_numpy(float)),
                "high": shorts(table["high"].to_numpy(float)),
                "lost": table["lost"].astype(int).tolist(),
                "lanes": table["lanes"].astype(int).tolist(),
                "best": None if name in problem.never else short(best),
            }
        )
    return {**scale(problem.question.selection, bottom, top), "lines": lines}


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
    return {
        "label": spoken(metric),
        "percent": metric.endswith("error"),
        "span": [short(low), short(high)],
        "ticks": ticks(low, high),
    }


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
