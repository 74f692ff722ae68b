"""Curves: a metric against steps, and intervals of a median over seeds."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from optbench.cell import Status
from optbench.record import Question
from optbench.stats import Frame

LEVEL = 0.95
"""Of every interval that can have it."""
INTERVAL_FROM = 5
"""With fewer seeds than this the spread is shown as min-max, not as an interval."""
RESAMPLES = 2000
POINTS = 300
"""How many steps of a long run are drawn."""


def middle(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else np.nan


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Median with its interval: order statistics that cover the median with probability `coverage(count)`."""
    if len(values) == 0:
        return np.nan, np.nan, np.nan
    ordered, last = np.sort(values), len(values) - 1
    low, high = ranks(len(values))
    return float(ordered[last // 2] + ordered[-(-last // 2)]) / 2, float(ordered[low]), float(ordered[high])


@functools.cache
def ranks(count: int) -> tuple[int, int]:
    """The ends of the interval of a median, as places among `count` sorted values.

    The narrowest symmetric pair that covers the median with 95 % or more; the extremes where none does, which is so
    with up to 5 values. Infinite values need no special case.
    """
    low = max((r for r in range((count + 1) // 2) if coverage(count, r) >= LEVEL), default=0)
    return low, count - 1 - low


def coverage(count: int, low: int | None = None) -> float:
    """The exact probability that the interval of a median (or its `low`-th value and that from above) covers it.

    For continuous values, whatever their distribution: 1 - 2 P(Binomial(count, 1/2) <= low).
    """
    low = ranks(count)[0] if low is None else low
    return 1 - 2 * sum(math.comb(count, k) for k in range(low + 1)) / 2**count


def interval_label(counts: Iterable[int]) -> str:
    """`96.9% interval`, `93.8-97.9% intervals`, `min-max`: the coverage of medians' intervals over so many seeds."""
    covers = sorted(coverage(count) for count in counts if count >= INTERVAL_FROM)
    if not covers:
        return "min-max"
    few = f", min-max below {INTERVAL_FROM} seeds" * any(count < INTERVAL_FROM for count in counts)
    span = f"{100 * covers[0]:.1f}" + f"-{100 * covers[-1]:.1f}" * (covers[0] < covers[-1])
    return f"{span}% interval{few}"


def records(rows: Frame, metric: str) -> Iterator[dict[Hashable, Any]]:
    """The rows as dicts of the few columns that a metric's history needs; a frame has a hundred, which is slow."""
    wanted = ("status", "reason", "losses", "evaluation_steps", "question", f"evaluation.{metric}")
    names = [name for name in wanted if name in rows]
    columns = [rows[name].tolist() for name in names]
    return (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))


def history(row: Mapping[Hashable, Any], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which a row has a value of a metric, and the values; empty if it has none.

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
    ran = histories(rows, metric)
    known = [steps for steps, _, _ in ran if len(steps)]
    if not known:
        return pd.DataFrame(columns=["step", "middle", "low", "high"], dtype=float)
    grid = np.unique(np.concatenate(known))
    if len(grid) > points:
        grid = grid[np.unique(np.linspace(0, len(grid) - 1, points).round().astype(int))]
    lanes = np.sort([held(*each, grid) for each in ran], axis=0)
    low, high = ranks(len(lanes))
    return pd.DataFrame(
        {"step": grid, "middle": np.median(lanes, axis=0), "low": lanes[low], "high": lanes[high]}
    )


def by_lane(rows: Frame, metric: str, grid: np.ndarray) -> np.ndarray:
    """What each lane shows at the steps of a grid, [lanes, steps]."""
    return np.array([held(*each, grid) for each in histories(rows, metric)])


def histories(rows: Frame, metric: str) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """The history of each row, with its status."""
    return [(*history(row, metric), row["status"]) for row in records(rows, metric)]


def held(steps: np.ndarray, values: np.ndarray, status: str, grid: np.ndarray) -> np.ndarray:
    """One lane's latest values at the steps of a grid; infinite after it diverged or failed."""
    index = np.searchsorted(steps, grid, side="right") - 1
    found = np.where(index >= 0, np.append(values, np.inf)[index], np.inf)
    if not Status(status).finished and len(steps):
        found = np.where(grid > steps[-1], np.inf, found)
    return np.where(np.isfinite(found), found, np.inf)
