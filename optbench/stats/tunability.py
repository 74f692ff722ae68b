"""Tunability: how much tuning an optimizer needs, and what it gives without any.

Sources: Dodge et al. 2019, arXiv:1909.03004 (expected validation performance for a budget of trials), in the unbiased
form of Tang et al. 2020, arXiv:2004.13705; Sivaprasad et al. 2020, arXiv:1910.11758 (what an untuned default is
worth). How many decades of learning rate work is `summary.working_range`.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.bootstrap import Table, interval, medians, resampled_medians
from optbench.stats.curves import middle
from optbench.stats.outcomes import at_best
from optbench.stats.settings import PROBLEM

KEYS = [*PROBLEM, "problem", "optimizer"]


def best_of_trials(found: Frame, fresh: bool = False) -> Frame:
    """The best value of k trials drawn from those that were run, for k = 1 to all of them.

    Trials are drawn without putting them back, which makes the expectation unbiased. It is infinite as long as k
    trials can all fail, however rare that is; the median is not, once half of the draws hold one that works.

    Args:
        found: outcomes of all trials that chose (of `stage` 'tuning', where there are stages).
        fresh: whether the trials are a sample of a larger space, so that the intervals also draw them anew; a grid
            is the whole of its space, and only seeds are drawn.

    Returns:
        One row for each problem, optimizer and k: columns of `PROBLEM`, problem, optimizer, k, trials, middle (the
        median best of k, of the median seed's selection metric), expected (the mean of it), low and high (the 95 %
        bootstrap interval of the median best).
    """
    if "stage" in found:
        found = found[found["stage"] == "tuning"]
    parts = []
    for keys, rows in found.groupby(KEYS, sort=False, dropna=False):
        data = of_trials(rows)
        trials = data.counts.shape[1]
        values = medians(data)[0]
        draws = resampled_medians(data)[:, 0]
        if fresh:
            picks = np.random.default_rng(2).integers(trials, size=draws.shape)
            draws = np.take_along_axis(draws, picks, axis=1)
        low, high = interval(median_best(np.sort(draws, axis=1)))
        k = np.arange(1, trials + 1)
        numbers = {
            "middle": median_best(np.sort(values)[None])[0],
            "expected": expected_best(np.sort(values)),
        }
        told = dict(zip(KEYS, keys, strict=True))
        parts.append(pd.DataFrame({**told, "k": k, "trials": trials, **numbers, "low": low, "high": high}))
    return pd.concat(parts, ignore_index=True)


def of_trials(rows: Frame) -> Table:
    """The selection metric of one optimizer on one problem, its trials in the place of problems."""
    groups = [np.sort(group.to_numpy(float)) for _, group in rows.groupby("trial", dropna=False)["selection"]]
    counts = np.array([len(group) for group in groups])
    values = np.full((1, len(groups), counts.max()), math.inf)
    for i, group in enumerate(groups):
        values[0, i, : len(group)] = group
    return Table((str(rows["optimizer"].iloc[0]),), tuple(map(str, range(len(groups)))), values, counts[None])


def chances(count: int) -> np.ndarray:
    """The chance that the i-th least of `count` values is the least of k drawn without putting back, [k, i].

    C(count - i, k - 1) / C(count, k).
    """
    return np.array(
        [
            [math.comb(count - i, k - 1) / math.comb(count, k) for i in range(1, count + 1)]
            for k in range(1, count + 1)
        ]
    )


def expected_best(ascending: np.ndarray) -> np.ndarray:
    """The mean of the least of k values drawn without putting back, [k]; infinite where a failure can be it."""
    weight = chances(len(ascending))
    return np.where(weight > 0, weight * np.where(weight > 0, ascending, 0.0), 0.0).sum(axis=1)


def median_best(ascending: np.ndarray) -> np.ndarray:
    """The median of the least of k, [..., k]: the first value below which half of the draws have one."""
    upto = np.cumsum(chances(ascending.shape[-1]), axis=1)
    return ascending[..., (upto >= 0.5 - 1e-12).argmax(axis=1)]


def untuned(found: Frame) -> Frame:
    """What each optimizer gives at its default learning rate, beside what its best trial gives.

    Args:
        found: outcomes of all trials. The untuned rows are those of stage 'default', or without stages those whose
            trial is the `trial_default`; older rows that do not carry it are not known to be untuned.

    Returns:
        One row for each problem and optimizer whose default was run: columns of `PROBLEM`, problem, optimizer,
        default (the learning rate), value and best (the median reported metric, untuned and at the best trial),
        better (how many trials chose a better selection metric), trials, rank (among all untuned optimizers of the
        problem; equals share the mean), rank_tuned (among the tuned), others (how many were untuned).
    """
    best = {keys: rows for keys, rows in at_best(found).groupby(KEYS, dropna=False)}
    parts = []
    for keys, rows in found.groupby(KEYS, sort=False, dropna=False):
        part = untuned_one(rows, best.get(keys))
        parts += [dict(zip(KEYS, keys, strict=True)) | part] if part else []
    columns = [*KEYS, "default", "value", "best", "better", "trials", "untuned", "tuned"]
    result = pd.DataFrame(parts, columns=columns)
    for name, column in (("rank", "untuned"), ("rank_tuned", "tuned")):
        result[name] = result.groupby("problem", sort=False)[column].rank()
    result["others"] = result.groupby("problem", sort=False)["problem"].transform("size")
    return result.drop(columns=["untuned", "tuned"])


def untuned_one(rows: Frame, best: Frame | None) -> dict[str, float]:
    """One optimizer on one problem; nothing if its default was not run."""
    staged = "stage" in rows
    trial = rows["trial"].astype(float)
    default = rows["trial_default"].astype(float) if "trial_default" in rows else math.nan
    # What has nothing to sweep was only ever run with its defaults.
    plain = rows[rows["stage"] == "default"] if staged else rows[np.isclose(trial, default) | trial.isna()]
    tuning = rows[rows["stage"] == "tuning"] if staged else rows
    if plain.empty or best is None:
        return {}
    values = tuning.groupby("trial", dropna=False)["selection"]
    chosen = np.array([middle(group.to_numpy(float)) for _, group in values])
    return {
        "default": float(plain["trial"].iloc[0]) if pd.notna(plain["trial"].iloc[0]) else math.nan,
        "value": middle(plain["score"].to_numpy(float)),
        "best": middle(best["score"].to_numpy(float)),
        "better": int((chosen < middle(plain["selection"].to_numpy(float))).sum()),
        "trials": len(chosen),
        "untuned": middle(plain["compared"].to_numpy(float)),
        "tuned": middle(best["compared"].to_numpy(float)),
    }
