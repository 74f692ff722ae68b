"""Intervals and tests: Student's t on logarithms, paired by seed or problem; Clopper and Pearson's for shares.

For each seed all optimizers have the same first parameters and batches, so two optimizers are compared seed by seed: a
t test of the mean of log10(mine / other). Losses and times are far closer to log-normal than to normal. One optimizer
leads when it is better than each other at two-sided p < 0.05; since all tests must hold, that needs no correction for
their number (intersection-union: Berger 1982, doi:10.1080/00401706.1982.10487790) and its error rate is at most 5 %.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.curves import LEVEL, median_interval

ALPHA = 1 - LEVEL
"""The level of every test."""


def half_width(values: np.ndarray, comparisons: int = 1) -> np.ndarray:
    """Of the t interval of the mean over the last axis; with several, all of them cover together (Bonferroni)."""
    count = values.shape[-1]
    if count < 2:
        return np.full(values.shape[:-1], math.inf)
    return quantile(count, comparisons) * values.std(axis=-1, ddof=1) / math.sqrt(count)


def quantile(count: int, comparisons: int = 1) -> float:
    """Student's t for the mean of at least two numbers, at the level of every test."""
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, 1 - ALPHA / 2 / comparisons))


def t_test(values: np.ndarray) -> float:
    """The two-sided p of Student's test that the mean is 0; 1 where there is nothing to test."""
    from scipy.special import stdtr

    count = len(values)
    if count < 2 or not values.any():
        return 1.0
    spread = values.std(ddof=1) / math.sqrt(count)
    return 2 * float(stdtr(count - 1, -abs(values.mean()) / spread)) if spread > 0 else 0.0


def below(values: np.ndarray, target: float) -> float:
    """The one-sided p that the mean logarithm lies below that of a fixed target; 1 if a run failed."""
    if not (np.isfinite(values).all() and target > 0 and (values > 0).all()):
        return 1.0
    gaps = np.log10(values / target)
    p = t_test(gaps)
    return p / 2 if gaps.mean() < 0 else 1 - p / 2


def share_interval(count: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson's exact 95 % interval of a share of which `count` in `of` were seen."""
    from scipy.special import betaincinv

    low = float(betaincinv(count, of - count + 1, ALPHA / 2)) if count else 0.0
    return low, float(betaincinv(count + 1, of - count, 1 - ALPHA / 2)) if count < of else 1.0


def log_gaps(mine: np.ndarray, other: np.ndarray) -> np.ndarray:
    """log10(mine / other); a decade beyond the largest where only one of them is infinite or zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.log10(np.abs(mine)) - np.log10(np.abs(other))
    # No logarithm of a loss below zero: there only the sign counts.
    gap = np.where((mine <= 0) | (other <= 0), np.where(mine < other, -np.inf, np.inf), gap)
    gap = np.where(mine == other, 0.0, gap)
    known = np.abs(gap[np.isfinite(gap)])
    beyond = (known.max() if len(known) else 0.0) + 1.0
    return np.where(np.isfinite(gap), gap, np.sign(gap) * beyond)


def compare(mine: np.ndarray, other: np.ndarray, exact: bool = False) -> tuple[float, float]:
    """The mean of log10(mine / other) over pairs, and its p; `exact`: nothing is random, any difference counts."""
    gaps = log_gaps(mine, other)
    return float(gaps.mean()) if len(gaps) else 0.0, float(not gaps.any()) if exact else t_test(gaps)


def by_seed(rows: Frame, column: str, codes: np.ndarray) -> np.ndarray:
    """A column of outcomes on one problem, [O, N] by the code of the optimizer and the seed; NaN where none ran."""
    seeds, its = np.unique(rows["seed"].to_numpy(), return_inverse=True)
    found = np.full((codes.max(initial=-1) + 2, len(seeds)), math.nan)
    found[codes, its] = rows[column].to_numpy(float)
    return found[:-1]  # the last has what has no code, which is -1


def is_exact(rows: Frame) -> bool:
    """Whether nothing in a problem is random."""
    return "seeded" in rows and not rows["seeded"].all()


def leading(values: np.ndarray, first: int, exact: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Which optimizers of [O, N] lead, `first` among them, and the p that it is not better than each."""
    found = []
    for other in values:
        both = ~np.isnan(values[first]) & ~np.isnan(other)
        gap, p = compare(values[first][both], other[both], exact)
        found.append(p if gap < 0 else 1.0)
    p = np.array(found)
    return np.isfinite(values).any(axis=1) & (p >= ALPHA), p


def spreads(best: Frame, column: str, tested: str | None = None, of: str = "optimizer") -> Frame:
    """The medians of a column for each optimizer of one problem, and who leads.

    Returns columns middle, low, high (the median and its interval), seeds, p (that the least median is not better,
    paired by seed in the column `tested`) and leads: the least median, and all that it is not significantly better
    than. One optimizer leads alone only if it is significantly better than every other. The index is the optimizer.
    """
    codes, names = pd.factorize(best[of])
    values = best[column].to_numpy(float)
    ends = np.array([median_interval(values[codes == place]) for place in range(len(names))])
    paired = by_seed(best, tested or column, codes)
    leads, p = leading(paired, int(ends[:, 0].argmin()), is_exact(best))
    found = dict(zip(("middle", "low", "high"), ends.T, strict=True))
    found |= {"seeds": np.bincount(codes[codes >= 0]), "p": p, "leads": leads & np.isfinite(ends[:, 0].min())}
    return pd.DataFrame(found, index=pd.Index(names, name=of))


def differences(rows: Frame, column: str = "compared") -> Frame:
    """Each pair of optimizers on one problem, paired by seed, from outcomes at the reported trials.

    Columns optimizer, other, ratio (the geometric mean of optimizer / other), low, high (its 95 % t interval), p
    (two-sided), seeds (that both ran).
    """
    codes, names = pd.factorize(rows["optimizer"], sort=True)
    values, exact, found = by_seed(rows, column, codes), is_exact(rows), []
    for i, j in itertools.combinations(range(len(names)), 2):
        one, other = values[[i, j]][:, ~np.isnan(values[[i, j]]).any(axis=0)]
        mean, p = compare(one, other, exact)
        half = float(half_width(log_gaps(one, other)))
        with np.errstate(over="ignore"):
            ratio, low, high = np.power(10.0, [mean, mean - half, mean + half])
        found.append((names[i], names[j], ratio, low, high, p, len(one)))
    return pd.DataFrame(found, columns=["optimizer", "other", "ratio", "low", "high", "p", "seeds"])


def mean_difference(gaps: np.ndarray) -> dict[str, float]:
    """The mean of paired differences, as `difference`, with its 95 % t interval (`low`, `high`) and p."""
    mean, half = float(gaps.mean()), float(half_width(gaps))
    return {"difference": mean, "low": mean - half, "high": mean + half, "p": t_test(gaps)}
