"""The array behind every comparison, and its stratified bootstrap.

Two uncertainties are kept apart: that due to seeds, which are resampled within each optimizer and problem, and that
due to the choice of problems, which is a t interval over problems (of a score that is no mean, by the jackknife).

Sources: Efron 1979, doi:10.1214/aos/1176344552; stratified as in Agarwal et al. 2021, arXiv:2108.13264; Tukey 1958
(jackknife).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.curves import LEVEL, RESAMPLES
from optbench.stats.paired import half_width


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

    @property
    def ran(self) -> np.ndarray:
        """1 where there is a seed, 0 past the count, [O, P, N]."""
        return (np.arange(self.values.shape[-1]) < self.counts[..., None]).astype(float)


def table(rows: Frame, column: str) -> Table:
    """A column of the outcomes of a complete block, at the reported trial, as an array.

    Raises:
        ValueError: an optimizer has no row on a problem.
    """
    texts = (rows[name].astype(str).to_numpy(object) for name in ("optimizer", "problem"))
    (optimizers, mine), (problems, its) = (np.unique(each, return_inverse=True) for each in texts)
    found, shape = rows[column].to_numpy(float), (len(optimizers), len(problems))
    order = np.lexsort((found, its, mine))
    pair = (mine * len(problems) + its)[order]
    counts = np.bincount(pair, minlength=math.prod(shape))
    if (counts == 0).any():
        raise ValueError(f"{(counts == 0).sum()} pairs of optimizer and problem have no row; see `complete`")
    values = np.full((len(counts), counts.max()), math.inf)
    values[pair, np.arange(len(pair)) - (np.cumsum(counts) - counts)[pair]] = found[order]
    return Table(tuple(optimizers), tuple(problems), values.reshape(*shape, -1), counts.reshape(shape))


def medians(data: Table) -> np.ndarray:
    """The median over seeds for each optimizer and problem, [O, P]."""
    middles = np.stack([(data.counts - 1) // 2, data.counts // 2], axis=-1)
    return np.take_along_axis(data.values, middles, -1).mean(axis=-1)


def resampled_medians(data: Table, draws: int = RESAMPLES) -> np.ndarray:
    """The medians in `draws` resamples of the seeds, [B, O, P].

    The j-th of n sorted draws from n values is the value at ceil(n U), where U, the j-th of n sorted uniform numbers,
    has the distribution Beta(j, n + 1 - j); so only the middle one or two are drawn.
    """
    generator, count = np.random.default_rng(0), data.counts
    half = (count + 1) // 2
    lower = generator.beta(half, count + 1 - half, (draws, *count.shape))
    upper = lower + (1 - lower) * generator.beta(1, np.maximum(count - half, 1), lower.shape)
    places = np.stack([lower, np.where(count % 2, lower, upper)], axis=-1)
    places = np.minimum((places * count[..., None]).astype(int), count[..., None] - 1)
    return np.take_along_axis(data.values[None], places, -1).mean(axis=-1)


def resampled_weights(data: Table, draws: int = RESAMPLES) -> np.ndarray:
    """How often each seed is drawn in `draws` resamples, [B, O, P, N]; along N it sums to the count."""
    shares = data.ran / data.counts[..., None]
    return np.random.default_rng(0).multinomial(data.counts, shares, (draws, *data.counts.shape))


def interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the percentile interval over the first axis; an end is a value that was drawn."""
    ends = math.floor((1 - LEVEL) / 2 * (len(draws) - 1)), math.ceil((1 + LEVEL) / 2 * (len(draws) - 1))
    low, high = np.partition(draws, ends, axis=0)[list(ends)]
    return low, high


def left_out(each: np.ndarray) -> np.ndarray:
    """The means over problems with each problem left out, [..., P], from the contributions of the problems."""
    return (each.sum(axis=-1, keepdims=True) - each) / max(each.shape[-1] - 1, 1)


def over_problems(values: np.ndarray, without: np.ndarray, within: tuple[float, float]) -> list[np.ndarray]:
    """The ends of the 95 % interval over problems of scores [...], from those without each problem [..., P].

    A t interval of the jackknife's pseudo-values: of a mean over problems, the plain t interval. Scores and ends lie
    `within` two bounds.
    """
    with np.errstate(invalid="ignore"):  # an infinite score has no interval but the bounds
        half = half_width((without.shape[-1] - 1) * without)
        return [np.fmax(values - half, within[0]), np.fmin(values + half, within[1])]


def scored(
    data: Table,
    name: str,
    values: np.ndarray,
    seeds: np.ndarray,
    without: np.ndarray,
    within: tuple[float, float] = (0.0, 1.0),
    up: bool = False,
    **others: np.ndarray,
) -> Frame:
    """A table of scores [O], best first, with their intervals over seeds and over problems.

    From the scores in resamples of the seeds [B, O] and without each problem [O, P]; `up`: less is better. Columns
    optimizer, `name`, low, high, low_tasks, high_tasks, the others, problems (their number).
    """
    ends = [*interval(seeds), *over_problems(values, without, within)]
    columns = {"optimizer": data.optimizers, name: values, **others, "problems": len(data.problems)}
    columns |= dict(zip(("low", "high", "low_tasks", "high_tasks"), ends, strict=True))
    return pd.DataFrame(columns).sort_values([name, "optimizer"], ascending=[up, True], ignore_index=True)
