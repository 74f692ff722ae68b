"""Tunability: how much tuning an optimizer needs, and its results without any.

Sources: Dodge et al. 2019, arXiv:1909.03004 (expected validation performance for a budget of trials), in the unbiased
form of Tang et al. 2020, arXiv:2004.13705; Sivaprasad et al. 2020, arXiv:1910.11758 (untuned defaults). The width of
the range of learning rates that work is `summary.working_range`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.curves import INTERVAL_FROM, median_interval, middle
from optbench.stats.outcomes import at_best, by_trial, trying
from optbench.stats.paired import half_width
from optbench.stats.settings import PROBLEM

KEYS = [*PROBLEM, "problem", "optimizer"]


def best_of_trials(found: Frame) -> Frame:
    """The best value of k trials drawn from those that were run, for k = 1 to all of them.

    Trials are drawn without replacement. The mean is infinite as long as k trials can all fail, however rare that is;
    the median is not, once half of the draws hold one that works. Both are unbiased over draws of trials, not over
    seeds: the least of several noisy medians is too small. The interval allows for that: it is the same function of the
    ends of simultaneous intervals of all trials, so it covers the median best of the trials' true medians.

    Takes outcomes of all trials. One row for each problem, optimizer and k: columns of `PROBLEM`, problem, optimizer,
    k, trials, middle (the median best of k, of the median seed's selection metric), expected (its mean), low, high.
    """
    found = trying(found)
    parts = []
    for _, rows in found.groupby(KEYS, sort=False, dropna=False)[["trial", "selection"]]:
        runs = [*by_trial(rows, "selection").values()]
        trials, values = len(runs), np.sort([*map(middle, runs)])
        bands = np.sort([band(each, trials) for each in runs], axis=0)
        middles = median_best(values[None])[0]
        low, high = median_best(bands.T)
        parts.append(pd.DataFrame({
            "k": np.arange(1, trials + 1), "trials": trials, "middle": middles, "expected": expected_best(values),
            "low": np.minimum(low, middles), "high": np.maximum(high, middles),
        }))  # fmt: skip
    keys = found[KEYS].drop_duplicates()
    keys = keys.loc[keys.index.repeat([*map(len, parts)])].reset_index(drop=True)
    return pd.concat([keys, pd.concat(parts, ignore_index=True)], axis="columns")


def band(values: np.ndarray, trials: int) -> tuple[float, float]:
    """The t interval of a trial's median on logarithms, such that those of all trials cover together.

    With a failure, a value that has no logarithm or fewer than five seeds, it is the range of the values.
    """
    if not (np.isfinite(values).all() and (values > 0).all() and len(values) >= INTERVAL_FROM):
        return float(values.min()), float(values.max())
    logs = np.log(values)
    half = float(half_width(logs, trials))
    return math.exp(logs.mean() - min(half, 700)), math.exp(min(logs.mean() + half, 700))


def chances(count: int) -> np.ndarray:
    """The chance that the i-th least of `count` values is the least of k drawn without replacement, [k, i].

    C(count - i, k - 1) / C(count, k).
    """
    draws = range(1, count + 1)
    return np.array([[math.comb(count - i, k - 1) / math.comb(count, k) for i in draws] for k in draws])


def expected_best(ascending: np.ndarray) -> np.ndarray:
    """The mean of the least of k values drawn without replacement, [k]; infinite where a failure can be it."""
    weight = chances(len(ascending))
    return np.where(weight > 0, weight * np.where(weight > 0, ascending, 0.0), 0.0).sum(axis=1)


def median_best(ascending: np.ndarray) -> np.ndarray:
    """The median of the least of k, [..., k]: the first value below which half of the draws have one."""
    upto = np.cumsum(chances(ascending.shape[-1]), axis=1)
    return ascending[..., (upto >= 0.5 - 1e-12).argmax(axis=1)]


def untuned(found: Frame) -> Frame:
    """The result of each optimizer at its default learning rate, beside that of its best trial.

    Takes outcomes of all trials. The untuned rows are those of stage 'default', or without stages those whose trial is
    the `trial_default`, where rows have it. One row for each problem and optimizer whose default was run: columns of
    `PROBLEM`, problem, optimizer, default (the learning rate), value and best (the median reported metric, untuned and
    at the best trial), better (number of trials with a better selection metric), trials, rank (among all untuned
    optimizers of the problem; equals share the mean), rank_tuned (among the tuned), others (number of untuned).
    """
    how: dict[str, Any] = {"sort": False, "dropna": False}
    plain, best = (rows.groupby(KEYS, **how) for rows in (at_default(found), at_best(found)))
    middles, tuned = (each[["score", "selection", "compared"]].median() for each in (plain, best))
    trials = trying(found).groupby([*KEYS, "trial"], **how)["selection"].median().droplevel("trial")
    better = (trials < middles["selection"].reindex(trials.index)).groupby(KEYS, **how)
    result = pd.DataFrame({
        "default": plain["trial"].first().astype(float), "value": middles["score"], "best": tuned["score"],
        "better": better.sum(), "trials": better.size(), "untuned": middles["compared"], "tuned": tuned["compared"],
    }, index=middles.index).reset_index()  # fmt: skip
    groups = result.groupby("problem", sort=False)
    ranks = {"rank": groups["untuned"].rank(), "rank_tuned": groups["tuned"].rank()}
    result = result.assign(**ranks, others=groups["problem"].transform("size"))
    return result.drop(columns=["untuned", "tuned"])


def at_default(rows: Frame) -> Frame:
    """The rows of optimizers at their defaults."""
    if "stage" in rows:
        return rows[rows["stage"] == "default"]
    trial = rows["trial"].astype(float)
    default = rows["trial_default"].astype(float) if "trial_default" in rows else math.nan
    # An optimizer with nothing to sweep only ever ran with its defaults.
    return rows[np.isclose(trial, default) | trial.isna()]


def sensitivity(seen: Frame) -> Frame:
    """The final selection metric at each learning rate, from outcomes of one optimizer on one problem.

    Columns: trial, middle, low, high, lanes, lost (lanes that diverged or failed).
    """
    groups = by_trial(trying(seen), "selection").items()
    columns = ["trial", "middle", "low", "high", "lanes", "lost"]
    found = [(at, *median_interval(each), len(each), (each == math.inf).sum()) for at, each in groups]
    return pd.DataFrame(found, columns=columns)
