"""One number for each optimizer over all runs: the interquartile mean, and the probability of improvement.

Source: Agarwal et al. 2021, Deep Reinforcement Learning at the Edge of the Statistical Precipice, arXiv:2108.13264.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.bootstrap import Table, interval, resampled_problems, resampled_weights, table
from optbench.stats.profiles import ordered

CUT = 0.25
"""The share of runs that is left out at either end."""


def interquartile_means(rows: Frame, column: str = "progress") -> Frame:
    """The mean of the middle half of all runs of an optimizer, with stratified bootstrap intervals.

    Less moved by single runs than the mean, and by more of them than the median. Each problem counts the same,
    however many seeds it has; the run in which a quarter is full counts with the rest of the quarter.

    Args:
        rows: outcomes of a complete block at the reported trials.
        column: what is averaged; numbers of problems must be comparable, as those of `progress` are (0 to 1).

    Returns:
        Columns optimizer, iqm, low and high (95 % interval over seeds, stratified), low_tasks and high_tasks (over
        problems drawn anew), runs; the largest first.
    """
    data = table(rows, column)
    ones = (np.arange(data.values.shape[-1]) < data.counts[..., None]).astype(float)
    low, high = interval(trimmed_means(data, resampled_weights(data)))
    shares = resampled_problems(len(data.problems)) * len(data.problems)
    low_tasks, high_tasks = interval(trimmed_means(data, shares[:, None, :, None] * ones))
    found = pd.DataFrame({
        "optimizer": data.optimizers, "iqm": trimmed_means(data, ones[None])[0], "low": low, "high": high,
        "low_tasks": low_tasks, "high_tasks": high_tasks, "runs": data.counts.sum(axis=-1),
    })  # fmt: skip
    return ordered(found, "iqm", up=False)


def trimmed_means(data: Table, weights: np.ndarray) -> np.ndarray:
    """The means of the middle half under weights of the runs [B, O, P, N], [B, O]."""
    share = weights / data.counts[..., None]  # a problem's runs weigh 1 together
    draws, optimizers = share.shape[:2]
    values = data.values.reshape(optimizers, -1)
    order = np.argsort(values, axis=-1)
    values = np.take_along_axis(values, order, -1)
    share = np.take_along_axis(share.reshape(draws, optimizers, -1), order[None], -1)
    upto = np.cumsum(share, axis=-1)
    total = upto[..., -1:]
    # Of each run's weight, what lies between the quarters.
    inside = np.clip(upto, CUT * total, (1 - CUT) * total)
    inside = np.diff(inside, axis=-1, prepend=CUT * total)
    values = np.where(inside > 0, values, 0.0)  # an infinite one that is left out must not make the mean NaN
    return (inside * values).sum(axis=-1) / inside.sum(axis=-1)


def improvement(rows: Frame, column: str = "compared") -> Frame:
    """The probability that a run of one optimizer is better than a run of another, on a problem drawn at random.

    The mean over problems of Mann and Whitney's U over the number of pairs of runs; equal runs (two failures too)
    count half. 0.5 says nothing. That an interval leaves 0.5 out is not that the improvement is large.

    Args:
        rows: outcomes of a complete block at the reported trials.
        column: what is compared, less being better.

    Returns:
        Columns optimizer, other, probability (that `optimizer` is better), low and high (95 % interval over seeds,
        stratified), low_tasks and high_tasks (over problems drawn anew); one row for each ordered pair.
    """
    data = table(rows, column)
    wins = beats(data)
    each = np.einsum("oapij->oap", wins) / (data.counts[:, None] * data.counts[None])
    low, high = interval(resampled_wins(data, wins, resampled_weights(data)))
    low_tasks, high_tasks = interval(
        np.einsum("bp,oap->boa", resampled_problems(len(data.problems)), each, optimize=True)
    )
    first, second = np.nonzero(~np.eye(len(data.optimizers), dtype=bool))
    names = np.array(data.optimizers)
    return pd.DataFrame({
        "optimizer": names[first], "other": names[second], "probability": each.mean(axis=-1)[first, second],
        "low": low[first, second], "high": high[first, second], "low_tasks": low_tasks[first, second],
        "high_tasks": high_tasks[first, second],
    })  # fmt: skip


def beats(data: Table) -> np.ndarray:
    """1 where a run of the first optimizer is better than one of the second, 0.5 where equal, [O, O, P, N, N]."""
    mine, other = data.values[:, None, :, :, None], data.values[None, :, :, None, :]
    there = np.arange(data.values.shape[-1]) < data.counts[..., None]
    both = there[:, None, :, :, None] & there[None, :, :, None, :]
    return both * ((mine < other) + 0.5 * (mine == other))


def resampled_wins(data: Table, wins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The probability of improvement in each resample, [B, O, O]."""
    draws, optimizers, problems, seeds = weights.shape
    found = np.zeros((draws, optimizers, optimizers))
    share = weights / data.counts[..., None]
    for problem in range(problems):
        each = np.ascontiguousarray(share[:, :, problem])
        for first in range(optimizers):
            rest = wins[first, first:, problem].transpose(1, 0, 2).reshape(seeds, -1)
            won = (each[:, first] @ rest).reshape(draws, -1, seeds)
            found[:, first, first:] += np.einsum("bas,bas->ba", won, each[:, first:])
    found /= problems
    first, second = np.tril_indices(optimizers, -1)
    found[:, first, second] = 1 - found[:, second, first]
    return found
