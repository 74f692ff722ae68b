"""Performance profiles: the share of problems that an optimizer solves within a factor of the fastest; and their area.

Sources: Dolan and More 2002, arXiv:cs/0102001, doi:10.1007/s101070100263; the area is the score of AlgoPerf,
Dahl et al. 2023, arXiv:2306.07179, section 4.4. Unlike there, a problem's time is that of the best trial of the
tuning ruleset in use, and nothing is held out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.bootstrap import (
    Table,
    interval,
    medians,
    resampled_medians,
    resampled_problems,
    scored,
    table,
)  # fmt: skip

CEILING = 4.0
"""The ratio to the fastest up to which the area is taken, as in AlgoPerf."""


def ratios(times: np.ndarray) -> np.ndarray:
    """Each median time over the least on its problem, [..., O, P]; infinite where the target was not reached."""
    best = times.min(axis=-2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = times / best
    ratio = np.where(times == best, 1.0, ratio)  # 0 / 0: solved at the start
    return np.where(np.isfinite(times), ratio, np.inf)


def areas(ratio: np.ndarray, ceiling: float = CEILING) -> np.ndarray:
    """Each problem's contribution to the area under a profile, [..., O, P]: 1 if fastest, 0 past the ceiling.

    A profile is the mean over problems of step functions, so its normalised area is the mean of theirs.
    """
    return np.clip((ceiling - ratio) / (ceiling - 1), 0, 1)


def performance_profiles(rows: Frame, ceiling: float = CEILING, points: int = 61) -> Frame:
    """The share of problems that each optimizer solves within a factor of the fastest (Dolan and More 2002).

    Args:
        rows: outcomes of a complete block at the reported trials (`outcomes`, `at_best`, `complete`).
        ceiling: the largest factor.
        points: number of factors, evenly spaced on a log scale from 1.

    Returns:
        Columns optimizer, ratio (to the fastest), share (of problems solved within it in the median seed), low and
        high (the 95 % interval over seeds, stratified).
    """
    data = table(rows, "time")
    at = np.geomspace(1, ceiling, points)

    def share(ratio: np.ndarray) -> np.ndarray:
        return np.stack([(ratio <= limit * (1 + 1e-12)).mean(axis=-1) for limit in at], axis=-1)

    low, high = interval(share(ratios(resampled_medians(data))))
    return pd.DataFrame({
        "optimizer": np.repeat(data.optimizers, points), "ratio": np.tile(at, len(data.optimizers)),
        "share": share(ratios(medians(data))).ravel(), "low": low.ravel(), "high": high.ravel(),
    })  # fmt: skip


def algoperf_scores(rows: Frame, ceiling: float = CEILING) -> Frame:
    """The area under each optimizer's performance profile up to a ratio of `ceiling` (AlgoPerf, arXiv:2306.07179).

    1: the fastest on every problem; 0: on none within `ceiling` times the fastest. It is relative to the optimizers
    that are compared: another one can change every ratio.

    Returns:
        Columns optimizer, score, low and high (95 % interval over seeds, stratified), low_tasks and high_tasks (over
        problems), solved (problems whose target the median seed reached), fastest (problems on which none
        was faster), problems; best first.
    """
    data = table(rows, "time")
    times = medians(data)
    each = areas(ratios(times), ceiling)
    draws = areas(ratios(resampled_medians(data)), ceiling).mean(axis=-1)
    counts = {"solved": np.isfinite(times).sum(axis=-1), "fastest": (ratios(times) == 1).sum(axis=-1)}
    problems = resampled_problems(len(data.problems)) @ each.T
    return scored(data, "score", each.mean(axis=-1), draws, problems, up=False, **counts)


def scores_of(data: Table) -> np.ndarray:
    return areas(ratios(medians(data))).mean(axis=-1)
