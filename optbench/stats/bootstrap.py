"""The array behind every comparison, and its stratified bootstrap.

Seeds are drawn anew within each optimizer and problem, or problems are drawn anew for all optimizers alike; the
first says how far other seeds would have moved a number, the second how far other tasks of the same kind would.

Sources: Efron 1979, doi:10.1214/aos/1176344552; stratified as in Agarwal et al. 2021, arXiv:2108.13264.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from optbench.stats import Frame
from optbench.stats.curves import RESAMPLES

LEVEL = 0.95
"""Of every interval."""


class Table(NamedTuple):
    """One number for each optimizer [O], problem [P] and seed [N]; less is better, failures are infinite.

    The names are sorted, and so are the seeds' values: nothing that follows depends on the order of rows.
    """

    optimizers: tuple[str, ...]
    problems: tuple[str, ...]
    values: np.ndarray
    """[O, P, N], ascending along the last axis; infinite past the count."""
    counts: np.ndarray
    """[O, P]: how many seeds there are."""


def table(rows: Frame, column: str) -> Table:
    """A column of the outcomes of a complete block, at the reported trial, as an array.

    Raises:
        ValueError: an optimizer has no row on a problem.
    """
    optimizers, problems = (tuple(sorted(map(str, rows[name].unique()))) for name in ("optimizer", "problem"))
    places = [
        np.searchsorted(names, rows[name].astype(str).to_numpy(dtype=str))
        for names, name in ((optimizers, "optimizer"), (problems, "problem"))
    ]
    cells = places[0] * len(problems) + places[1]
    counts = np.bincount(cells, minlength=len(optimizers) * len(problems))
    if not len(rows) or (counts == 0).any():
        raise ValueError(
            f"{int((counts == 0).sum())} pairs of optimizer and problem have no row; see `complete`"
        )
    numbers = rows[column].to_numpy(float)
    order = np.lexsort((numbers, cells))
    within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    values = np.full((len(counts), counts.max()), math.inf)
    values[cells[order], within] = numbers[order]
    shape = (len(optimizers), len(problems))
    return Table(optimizers, problems, values.reshape(*shape, -1), counts.reshape(shape))


def medians(data: Table) -> np.ndarray:
    """The median seed of each optimizer and problem, [O, P]; the upper of the middle two, as everywhere."""
    return np.take_along_axis(data.values, (data.counts // 2)[..., None], -1)[..., 0]


def resampled_medians(data: Table, draws: int = RESAMPLES) -> np.ndarray:
    """The medians in `draws` resamples of the seeds, [B, O, P].

    The median of a resample is one of the seeds; which, follows a law that depends on nothing but their number, so
    it is drawn at once and no seed is.
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

    It is, when at least count // 2 + 1 draws are at most the j-th: a binomial tail.
    """
    need = count // 2 + 1
    shares = np.arange(1, count + 1) / count
    chances = [
        sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(need, count + 1))
        for share in shares
    ]
    return np.array([*chances[:-1], 1.0])


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
