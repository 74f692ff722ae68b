"""One number for each optimizer over all runs: the interquartile mean, and the probability of improvement.

Source: Agarwal et al. 2021, Deep Reinforcement Learning at the Edge of the Statistical Precipice, arXiv:2108.13264.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.bootstrap import (
    Table,
    interval,
    left_out,
    over_problems,
    resampled_weights,
    scored,
    table,
)

CUT = 0.25
"""The share of runs that is trimmed at either end."""


def interquartile_means(rows: Frame, column: str = "progress") -> Frame:
    """The mean of the middle half of all runs of an optimizer, with stratified bootstrap intervals.

    More robust than the mean, more efficient than the median. Problems have equal weight, however many seeds they
    have; a run at a quartile counts with the part of its weight that is inside. The column must be comparable between
    problems, as `progress` is (0 to 1).
    """
    data = table(rows, column)
    draws = trimmed_means(data, resampled_weights(data))
    kept = 1.0 - np.eye(len(data.problems))
    without = trimmed_means(data, kept[:, None, :, None] * data.ran).T
    values = trimmed_means(data, data.ran[None])[0]
    return scored(data, "iqm", values, draws, without, runs=data.counts.sum(axis=-1))


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
    # The part of each run's weight between the quartiles.
    inside = np.clip(upto, CUT * total, (1 - CUT) * total)
    inside = np.diff(inside, axis=-1, prepend=CUT * total)
    values = np.where(inside > 0, values, 0.0)  # an infinite one that is trimmed must not make the mean NaN
    return (inside * values).sum(axis=-1) / inside.sum(axis=-1)


def improvement(rows: Frame, column: str = "compared") -> Frame:
    """The probability that a run of one optimizer is better than a run of another, on a random problem.

    The mean over problems of Mann and Whitney's U over the number of pairs of runs; equal runs (also two failures)
    count half. It measures how often, not by how much.
    One row for each ordered pair; columns optimizer, other, probability (that `optimizer` is better), low, high,
    low_tasks, high_tasks.
    """
    data = table(rows, column)
    each = probabilities(data, data.ran[None])[0]
    seeds = interval(probabilities(data, resampled_weights(data)).mean(axis=1))
    problems = over_problems(each.mean(axis=0), left_out(np.moveaxis(each, 0, -1)), (0.0, 1.0))
    first, second = np.nonzero(~np.eye(len(data.optimizers), dtype=bool))
    names, columns = np.array(data.optimizers), ("probability", "low", "high", "low_tasks", "high_tasks")
    numbers = (array[first, second] for array in (each.mean(axis=0), *seeds, *problems))
    pairs = {"optimizer": names[first], "other": names[second]}
    return pd.DataFrame({**pairs, **dict(zip(columns, numbers, strict=True))})


def probabilities(data: Table, weights: np.ndarray) -> np.ndarray:
    """The probabilities of improvement on each problem under weights of the runs [B, O, P, N], [B, P, O, O]."""
    share, found = weights / data.counts[..., None], []
    for problem in range(len(data.problems)):
        values, each = data.values[:, problem], np.ascontiguousarray(share[:, :, problem])
        mine, other = values[:, :, None, None], values[None, None]
        wins = (mine < other) + 0.5 * (mine == other)
        # For many draws of so small matrices BLAS, which `optimize` calls, takes ten times as long.
        better = np.einsum("boi,oiaj->boaj", each, wins, optimize=len(each) == 1)
        found.append(np.einsum("boaj,baj->boa", better, each))
    return np.stack(found, axis=1)
