"""The array behind every comparison, and its stratified bootstrap.

Seeds are resampled within each optimizer and problem, or problems are resampled for all optimizers together: the
first estimates the uncertainty due to seeds, the second the uncertainty due to the choice of tasks.

Sources: Efron 1979, doi:10.1214/aos/1176344552; stratified as in Agarwal et al. 2021, arXiv:2108.13264.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.curves import RESAMPLES

LEVEL = 0.95
"""Of every interval."""


class Table(NamedTuple):
    """One number for each optimizer [O], problem [P] and seed [N]; less is better, failures are infinite.

    Names and values are sorted, so that no statistic depends on the order of rows.
    """

    optimizers: tuple[str, ...]
    problems: tuple[str, ...]
    values: np.ndarray
    """[O, P, N], ascending along the last axis; infinite past the count."""
    counts: np.ndarray
    """[O, P], of seeds."""


def table(rows: Frame, column: str) -> Table:
    """A column of the outcomes of a complete block, at the reported trial, as an array.

    Raises:
        ValueError: an optimizer has no row on a problem.
    """
    rows = rows.sort_values(column)
    keys = [rows[name].astype(str) for name in ("optimizer", "problem")]
    seat = rows.groupby(keys).cumcount().rename("seat")
    wide = rows[column].set_axis(pd.MultiIndex.from_arrays([*keys, seat])).unstack("seat")
    names = [wide.index.levels[level] for level in (0, 1)]
    wide = wide.reindex(pd.MultiIndex.from_product(names))
    shape = tuple(map(len, names))
    counts = wide.notna().sum(axis=1).to_numpy().reshape(shape)
    if (counts == 0).any():
        raise ValueError(f"{(counts == 0).sum()} pairs of optimizer and problem have no row; see `complete`")
    values = wide.fillna(math.inf).to_numpy(float).reshape(*shape, -1)
    return Table(*(tuple(map(str, each)) for each in names), values, counts)


def medians(data: Table) -> np.ndarray:
    """The median seed of each optimizer and problem, [O, P]; the upper of the middle two, as everywhere."""
    return np.take_along_axis(data.values, (data.counts // 2)[..., None], -1)[..., 0]


def resampled_medians(data: Table, draws: int = RESAMPLES) -> np.ndarray:
    """The medians in `draws` resamples of the seeds, [B, O, P].

    The median of a resample is one of the seeds, with probabilities that depend only on their number, so it is drawn
    directly.
    """
    uniform = np.random.default_rng(0).random((draws, *data.counts.shape))
    ranks = np.zeros(uniform.shape, int)
    for count in np.unique(data.counts):
        here = data.counts == count
        ranks[:, here] = np.searchsorted(median_law(int(count)), uniform[:, here])
    optimizer, problem = np.indices(data.counts.shape)
    return data.values[optimizer, problem, ranks]


@functools.cache
def median_law(count: int) -> np.ndarray:
    """The probability that the median of a resample of `count` sorted values is at most the j-th, [count].

    A binomial tail: at least count // 2 + 1 draws must be at most the j-th.
    """
    from scipy.special import bdtrc

    return bdtrc(count // 2, count, np.arange(1, count + 1) / count)


def resampled_weights(data: Table, draws: int = RESAMPLES) -> np.ndarray:
    """How often each seed is drawn in `draws` resamples, [B, O, P, N]; along N it sums to the count."""
    width = data.values.shape[-1]
    generator = np.random.default_rng(0)
    strata = data.counts.size
    picks = (generator.random((draws, strata, width)) * data.counts.reshape(-1, 1)).astype(np.int64)
    picks += np.arange(draws * strata).reshape(draws, strata, 1) * width
    drawn = np.broadcast_to(np.arange(width) < data.counts.reshape(-1, 1), picks.shape)
    weights = np.bincount(picks[drawn], minlength=draws * strata * width)
    return weights.reshape(draws, *data.counts.shape, width)


def resampled_problems(count: int, draws: int = RESAMPLES) -> np.ndarray:
    """The share of each problem in `draws` resamples of the problems, [B, P]; a row sums to 1."""
    return np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), draws) / count


def interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the percentile interval over the first axis; an end is a value that was drawn."""
    ends = math.floor((1 - LEVEL) / 2 * (len(draws) - 1)), math.ceil((1 + LEVEL) / 2 * (len(draws) - 1))
    low, high = np.partition(draws, ends, axis=0)[list(ends)]
    return low, high


def scored(
    data: Table,
    name: str,
    values: np.ndarray,
    seeds: np.ndarray,
    problems: np.ndarray,
    up: bool,
    **others: np.ndarray,
) -> Frame:
    """A table of scores, best first.

    Args:
        data: names the optimizers and problems.
        name: of the column of scores.
        values: the scores [O].
        seeds: the scores in resamples of the seeds [B, O].
        problems: the scores in resamples of the problems [B, O].
        up: whether less is better.
        others: further columns, [O] each.

    Returns:
        Columns optimizer, `name`, low and high (95 % interval over seeds, stratified), low_tasks and high_tasks (over
        problems), the others, problems (their number).
    """
    ends = dict(
        zip(("low", "high", "low_tasks", "high_tasks"), [*interval(seeds), *interval(problems)], strict=True)
    )
    columns = {"optimizer": data.optimizers, name: values, **ends, **others, "problems": len(data.problems)}
    return pd.DataFrame(columns).sort_values([name, "optimizer"], ascending=[up, True], ignore_index=True)
