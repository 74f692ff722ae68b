"""Performance profiles: the share of problems that an optimizer solves within a factor of the fastest; and their area.

Sources: Dolan and More 2002, arXiv:cs/0102001, doi:10.1007/s101070100263; the area is the score of AlgoPerf,
Dahl et al. 2023, arXiv:2306.07179, section 4.4, and scoring/performance_profile.py of mlcommons/algorithmic-efficiency.
A problem's time is that of the median seed at the best trial of the tuning ruleset in use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.bootstrap import interval, left_out, medians, resampled_medians, scored, table
from optbench.stats.settings import PROBLEM, labels

CEILING = 4.0
"""The ratio to the fastest up to which the area is taken, as in AlgoPerf."""
POINTS = 100
"""The number of ratios at which AlgoPerf evaluates a profile."""


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
    """The share of problems that each optimizer's median seed solves within a factor of the fastest.

    Factors are `points` numbers from 1 to `ceiling`, evenly spaced on a log scale. Columns optimizer, ratio (to the
    fastest), share, low, high.
    """
    data = table(rows, "time")
    at = np.geomspace(1, ceiling, points)

    def share(ratio: np.ndarray) -> np.ndarray:
        first = np.searchsorted(at * (1 + 1e-12), ratio).reshape(-1, ratio.shape[-1])
        places = first + (points + 1) * np.arange(len(first))[:, None]
        counts = np.bincount(places.ravel(), minlength=(points + 1) * len(first))
        upto = np.cumsum(counts.reshape(*ratio.shape[:-1], points + 1), axis=-1)
        return upto[..., :-1] / ratio.shape[-1]

    low, high = interval(share(ratios(resampled_medians(data))))
    return pd.DataFrame({
        "optimizer": np.repeat(data.optimizers, points), "ratio": np.tile(at, len(data.optimizers)),
        "share": share(ratios(medians(data))).ravel(), "low": low.ravel(), "high": high.ravel(),
    })  # fmt: skip


def contributions(
    times: np.ndarray, problems: Sequence[str], rule: str = "exact", held_out: Mapping[str, str] | None = None
) -> np.ndarray:
    """Each problem's contribution to AlgoPerf's score, from median times [..., O, P] to [..., O, scored problems].

    rule="exact" is the exact area under the profile. rule="algoperf" is the published definition: a time of more than
    four times the fastest does not count; a problem counts for an optimizer only if its held-out variants
    (`held_out`: their names, each with that of its base problem; not scored themselves) do; the fastest is found after
    that; and the area is the trapezoidal rule at 100 ratios from 1 to 4. Who does not reach a base problem's target is
    not the fastest on its variants either.
    """
    held_out = held_out or {}
    if rule == "algoperf":
        pairs = [(problems.index(held), problems.index(base)) for held, base in held_out.items()]
        times = times.copy()
        for held, base in pairs:
            times[..., held] = np.where(np.isinf(times[..., base]), math.inf, times[..., held])
        times = np.where(times > CEILING * times.min(axis=-2, keepdims=True), math.inf, times)
        for held, base in pairs:
            times[..., base] = np.where(np.isinf(times[..., held]), math.inf, times[..., base])
    ratio = ratios(times[..., [name not in held_out for name in problems]])
    if rule == "exact":
        return areas(ratio)
    first = np.searchsorted(np.linspace(1, CEILING, POINTS), ratio)
    return np.maximum(POINTS - 1 - first + 0.5 * (first > 0), 0) / (POINTS - 1)


def published(frame: Frame) -> tuple[str, dict[str, str]]:
    """The rule of AlgoPerf's score for rows, with their held-out variants: as published where its tables were imported.

    There `task.base` names the base of each workload.
    """
    if "task.base" not in frame or frame["task.base"].isna().any():
        return "exact", {}
    problems = frame.drop_duplicates(list(PROBLEM))
    name = dict(zip(problems["task"], labels(problems), strict=True))
    bases = dict(zip(problems["task"], problems["task.base"], strict=True))
    held_out = {name[task]: name[base] for task, base in bases.items() if task != base and base in name}
    return "algoperf", held_out


def algoperf_scores(rows: Frame, rule: str = "exact", held_out: Mapping[str, str] | None = None) -> Frame:
    """The area under each optimizer's performance profile (AlgoPerf, arXiv:2306.07179); `contributions` has the rules.

    1: the fastest on every problem; 0: on none within four times the fastest. It is relative to the optimizers that are
    compared, so each resample applies the rule again to all of them. Further columns: solved (problems whose target
    the median seed reached), fastest (problems on which none was faster).
    """
    data = table(rows, "time")
    times = medians(data)
    each = contributions(times, data.problems, rule, held_out)
    draws = contributions(resampled_medians(data), data.problems, rule, held_out).mean(axis=-1)
    counts = {"solved": np.isfinite(times).sum(axis=-1), "fastest": (ratios(times) == 1).sum(axis=-1)}
    return scored(data, "score", each.mean(axis=-1), draws, left_out(each), **counts)
