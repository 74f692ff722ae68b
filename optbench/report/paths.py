"""Paths across functions of two numbers: each optimizer of the report at its best learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from optbench.cell import Status
from optbench.record import Question, Surface
from optbench.report.look import order
from optbench.stats import Frame
from optbench.stats.outcomes import chosen
from optbench.stats.settings import newest, question_of

LEVELS = 14
"""How many contours."""
FAR = 100.0
"""A path ends at this distance, far outside the window."""
STATIONS = (1, 10, 100)
"""The steps at which a path carries a marker."""
ALIKE = ("schedule", "framework", "dtype", "precision")


@dataclass(frozen=True)
class Path:
    """The path of one optimizer."""

    optimizer: str
    trial: float | None
    points: np.ndarray
    """[steps + 1, 2]"""
    status: Status


@dataclass(frozen=True)
class Terrain:
    """A function, and the paths over it."""

    name: str
    surface: Surface
    paths: tuple[Path, ...]

    @cached_property
    def window(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """What is shown: the start, the minimum and most of every path, with a margin; excursions are cut."""
        start, end = np.array(self.surface.start), np.array(self.surface.minimum)
        reach = np.abs(end - start).max()
        points = np.concatenate([[start, end], *(path.points for path in self.paths)])
        near = points[(np.abs(points - (start + end) / 2) < reach).all(axis=1)]
        low, high = near.min(axis=0), near.max(axis=0)
        middle, half = (low + high) / 2, 0.58 * max(high - low)
        return tuple((float(center - half), float(center + half)) for center in middle)  # pyright: ignore

    @cached_property
    def contours(self) -> list[np.ndarray]:
        """Lines of equal height, each [points, 2], evenly on a log scale."""
        x, y = (np.linspace(*ends, 101) for ends in self.window)
        heights = self.surface.height(x[None, :], y[:, None])
        top = np.quantile(heights, 0.97)
        levels = np.geomspace(top * 1e-4, top, LEVELS)
        figure = Figure()
        FigureCanvasAgg(figure)
        found = figure.subplots().contour(x, y, heights, levels=levels)
        return [line for lines in found.allsegs for line in lines if len(line) > 1]


def terrains(frame: Frame, shown: Frame) -> list[Terrain]:
    """The paths that are stored for the optimizers that are shown, at the setting of the first row of these."""
    plane = frame["question"].map(lambda question: Question.read(question).surface is not None)
    rows = frame[plane & frame["optimizer"].isin(shown["optimizer"].unique())]
    for name in ALIKE:
        rows = rows[rows[name] == shown[name].iloc[0]]
    if "evaluation.x" not in rows or rows["evaluation.x"].isna().all():
        return []
    found = []
    for name, own in newest(rows[rows["steps"] == rows["steps"].max()]).groupby("task"):
        ways = (followed(label, own[own["optimizer"] == label]) for label in order(own["optimizer"]))
        paths = [way for way in ways if way is not None]
        surface = question_of(own).surface
        if paths and surface is not None:
            found.append(Terrain(str(name), surface, tuple(paths)))
    return sorted(found, key=lambda terrain: terrain.name, reverse=True)


def followed(label: str, rows: Frame) -> Path | None:
    """The path at the best learning rate; None if nothing ran."""
    row: dict[Any, Any] = chosen(rows).iloc[0].to_dict()
    points = np.array([row["evaluation.x"], row["evaluation.y"]], float).T
    if points.ndim != 2 or not len(points):
        return None
    far = np.flatnonzero(~(np.abs(points) < FAR).all(axis=1))
    points = points[: far[0]] if len(far) else points
    trial = None if row["trial"] != row["trial"] else row["trial"]
    return Path(label, trial, points, Status(row["status"]))


def thinned(points: np.ndarray, count: int = 240) -> np.ndarray:
    """Which of many steps are drawn: all of the first ones, in which the most happens, then fewer and fewer."""
    steps = len(points)
    if steps <= count:
        return np.arange(steps)
    late = np.geomspace(count // 2, steps - 1, count // 2)
    return np.unique(np.concatenate([np.arange(count // 2), late.round().astype(int)]))
