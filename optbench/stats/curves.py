"""Curves: a metric against steps, and its final value against the learning rate, over seeds."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from optbench.cell import Status
from optbench.record import Question
from optbench.stats import Frame

INTERVAL_FROM = 5
"""With fewer seeds than this the spread is shown as min-max, not as an interval."""
RESAMPLES = 2000
POINTS = 300
"""How many steps of a long run are drawn."""


def middle(values: np.ndarray) -> float:
    """The median; for an even count the upper of the middle two, so that it is a value that occurred."""
    return float(np.sort(values)[len(values) // 2])


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Median with its 95 % percentile-bootstrap interval, or with min and max for fewer than 5 values."""
    if len(values) == 0:
        return np.nan, np.nan, np.nan
    middle_, low, high = np.sort(values)[list(ranks(len(values)))]
    return float(middle_), float(low), float(high)


def ranks(count: int) -> tuple[int, int, int]:
    """Which of `count` sorted values are the median and the ends of its interval.

    A resampled median is one of the values, so the interval is a pair of ranks that depends on nothing but the
    count: drawn once, it serves every step of a curve, and infinite values need no special case.
    """
    if count < INTERVAL_FROM:
        return count // 2, 0, count - 1
    picks = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    medians = np.sort(np.sort(picks, axis=1)[:, count // 2])
    return count // 2, int(medians[int(0.025 * RESAMPLES)]), int(medians[int(0.975 * RESAMPLES) - 1])


def records(rows: Frame, metric: str) -> Iterator[dict[Hashable, Any]]:
    """The rows as dicts of the few columns that a metric's history needs; a frame has a hundred, and it shows."""
    wanted = ("status", "reason", "losses", "evaluation_steps", "question", f"evaluation.{metric}")
    names = [name for name in wanted if name in rows]
    columns = [rows[name].tolist() for name in names]
    return (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))


def history(row: Mapping[Hashable, Any], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which a row knows a metric, and its values there; empty if it never did.

    A training loss without noise is known after each step, everything else at the evaluations.
    """
    values, at = row.get(f"evaluation.{metric}"), row["evaluation_steps"]
    if values is None or np.ndim(values) == 0:  # a column of other tasks, or a row that never ran
        return np.zeros(0, int), np.zeros(0)
    at, seen = np.asarray(at, int), np.asarray(values, float)
    if metric != "loss" or Question.read(row["question"]).noisy or "losses" not in row:
        return at, seen
    losses = np.asarray(row["losses"], float)
    last = at >= len(losses)  # the parameters after the last step are known from the evaluation alone
    return np.append(np.arange(len(losses)), at[last]), np.append(losses, seen[last])


def curve(rows: Frame, metric: str, points: int = POINTS) -> Frame:
    """Median and interval over rows at each step: columns step, middle, low, high.

    A lane that diverged or failed counts as infinite from where it ended; one that reached its final target
    keeps the value it reached. The curve ends where the last lane did.
    """
    ran = [(history(row, metric), row["status"]) for row in records(rows, metric)]
    known = [steps for (steps, _), _ in ran if len(steps)]
    if not known:
        return pd.DataFrame(columns=["step", "middle", "low", "high"], dtype=float)
    grid = np.unique(np.concatenate(known))
    if len(grid) > points:
        grid = grid[np.unique(np.linspace(0, len(grid) - 1, points).round().astype(int))]
    lanes = np.sort([held(steps, values, status, grid) for (steps, values), status in ran], axis=0)
    center, low, high = ranks(len(lanes))
    return pd.DataFrame({"step": grid, "middle": lanes[center], "low": lanes[low], "high": lanes[high]})


def held(steps: np.ndarray, values: np.ndarray, status: str, grid: np.ndarray) -> np.ndarray:
    """One lane's values at the steps of a grid: the latest known, infinite after it diverged or failed."""
    if not len(steps):
        return np.full(len(grid), np.inf)
    index = np.searchsorted(steps, grid, side="right") - 1
    found = np.where(index >= 0, values[np.maximum(index, 0)], np.inf)
    if not Status(status).finished:
        found = np.where(grid > steps[-1], np.inf, found)
    return np.where(np.isfinite(found), found, np.inf)
