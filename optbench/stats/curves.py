"""Curves: a metric against steps, and intervals of a median over seeds."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

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


class Seen(NamedTuple):
    """The history of a metric in one cell."""

    steps: np.ndarray
    values: np.ndarray
    well: bool
    """Whether the cell neither diverged nor failed."""

    def at(self, grid: np.ndarray) -> np.ndarray:
        """The latest values at the steps of a grid; infinite after the cell diverged or failed."""
        found = np.append(self.values, np.inf)[np.searchsorted(self.steps, grid, side="right") - 1]
        if not self.well and len(self.steps):
            found = np.where(grid > self.steps[-1], np.inf, found)
        return np.where(np.isfinite(found), found, np.inf)


def known(rows: Frame, metric: str, to_end: bool = True) -> list[Seen]:
    """Each row's history of a metric; `to_end`: of a lane that reached its final target, to the loss it reached."""
    # Dicts of the few columns that are needed; a frame has a hundred, which is slow.
    wanted = ("status", "losses", "evaluation_steps", "question", f"evaluation.{metric}")
    columns, found = {name: rows[name].tolist() for name in wanted if name in rows}, []
    for each in zip(*columns.values(), strict=True):
        row = dict(zip(columns, each, strict=True))
        steps, values = history(row, metric)
        if to_end and metric == "loss" and row["status"] == Status.REACHED:
            at = len(row["losses"]) - 1
            if not len(steps) or at > steps[-1]:
                steps, values = np.append(steps, at), np.append(values, float(row["losses"][-1]))
        found.append(Seen(steps, values, Status(row["status"]).finished))
    return found


def history(row: Mapping[str, Any], metric: str) -> tuple[np.ndarray, np.ndarray]:
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
    ran = known(rows, metric, to_end=False)
    grid = np.unique(np.concatenate([np.zeros(0, int), *(each.steps for each in ran)]))
    if not len(grid):
        return pd.DataFrame(columns=["step", "middle", "low", "high"], dtype=float)
    if len(grid) > points:
        grid = grid[np.unique(np.linspace(0, len(grid) - 1, points).round().astype(int))]
    lanes = np.sort([each.at(grid) for each in ran], axis=0)
    low, high = ranks(len(lanes))
    middles = np.median(lanes, axis=0)
    return pd.DataFrame({"step": grid, "middle": middles, "low": lanes[low], "high": lanes[high]})


def by_lane(rows: Frame, metric: str, grid: np.ndarray) -> np.ndarray:
    """What each lane shows at the steps of a grid, [lanes, steps]."""
    return np.array([each.at(grid) for each in known(rows, metric, to_end=False)])
