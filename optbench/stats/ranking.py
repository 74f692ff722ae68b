"""Ranks over problems, and which differences between them the number of problems can tell from chance.

Sources: Friedman 1937; Iman and Davenport 1980; Demsar 2006, JMLR 7:1-30; pairs by Wilcoxon's signed ranks with
Holm's correction rather than by mean ranks, which depend on who else is compared: Benavoli, Corani and Mangili 2016,
JMLR 17(5):1-10.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.bootstrap import interval, medians, resampled_medians, resampled_problems, table
from optbench.stats.profiles import ordered

ALPHA = 0.05
"""The chance of an error that a test may make."""


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each optimizer on each problem, [..., O, P]: 1 is least, equals (all failures too) share the mean."""
    mine, other = values[..., :, None, :], values[..., None, :, :]
    return 0.5 + (other < mine).sum(axis=-2) + 0.5 * (other == mine).sum(axis=-2)


def mean_ranks(rows: Frame, column: str = "compared") -> Frame:
    """The mean rank of each optimizer over the problems, by its median seed; the least is the best.

    Args:
        rows: outcomes of a complete block at the reported trials.
        column: what is ranked, less being better: compared, score, training, selection or time.

    Returns:
        Columns optimizer, rank, low and high (95 % interval over seeds, stratified), low_tasks and high_tasks (over
        problems drawn anew), wins (problems on which none was better), problems; best first.
    """
    data = table(rows, column)
    each = ranks(medians(data))
    low, high = interval(ranks(resampled_medians(data)).mean(axis=-1))
    low_tasks, high_tasks = interval(resampled_problems(len(data.problems)) @ each.T)
    wins = (medians(data) == medians(data).min(axis=0)) & np.isfinite(medians(data))
    found = pd.DataFrame({
        "optimizer": data.optimizers, "rank": each.mean(axis=-1), "low": low, "high": high,
        "low_tasks": low_tasks, "high_tasks": high_tasks, "wins": wins.sum(axis=-1),
        "problems": len(data.problems),
    })  # fmt: skip
    return ordered(found, "rank", up=True)


class Friedman(NamedTuple):
    """Whether the optimizers differ at all, over the problems."""

    optimizers: int
    problems: int
    chi2: float
    """Friedman's statistic, corrected for ties, with optimizers - 1 degrees of freedom."""
    p: float
    f: float
    """Iman and Davenport's, which is less conservative."""
    f_p: float
    critical_difference: float
    """Nemenyi's: mean ranks that are closer are not told apart by it, at 5 %."""


def friedman(rows: Frame, column: str = "compared") -> Friedman:
    """Friedman's test that all optimizers are alike, on the ranks of their median seeds (Demsar 2006, section 3.2.2).

    NaN with fewer than three optimizers or two problems, where there is nothing to test. Where all problems agree
    on one order, F is infinite and its p is exact: how many orders there are, to the power 1 - problems.
    """
    from scipy import stats

    data = table(rows, column)
    each = ranks(medians(data))
    k, n = each.shape
    if k < 3 or n < 2:
        return Friedman(k, n, *[math.nan] * 5)
    spread = float(((each.mean(axis=1) - (k + 1) / 2) ** 2).sum()) * 12 * n / (k * (k + 1))
    tied = sum(
        float((c**3 - c).sum()) for c in (np.unique(each[:, j], return_counts=True)[1] for j in range(n))
    )
    room = 1 - tied / (n * k * (k * k - 1))
    chi2 = spread / room if room > 0 else 0.0  # everything ties everywhere
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 else math.inf
    p, f_p = (float(x) for x in (stats.chi2.sf(chi2, k - 1), stats.f.sf(f, k - 1, (k - 1) * (n - 1))))
    if math.isinf(f):
        # Every problem has the same order, and F's tail says 0 even for two of them: count the orders.
        alike = np.unique(each[:, 0], return_counts=True)[1]
        f_p = (math.factorial(k) / math.prod(math.factorial(int(c)) for c in alike)) ** (1 - n)
    # Demsar's q is the studentized range over sqrt(2).
    q = float(stats.studentized_range.ppf(1 - ALPHA, k, 1e6)) / math.sqrt(2)
    return Friedman(k, n, chi2, p, f, f_p, q * math.sqrt(k * (k + 1) / (6 * n)))


def pairs(rows: Frame, column: str = "compared") -> Frame:
    """Each pair of optimizers: Wilcoxon's signed ranks over the problems, Holm's correction over the pairs.

    The differences are those of the logarithms of the median seeds, since problems have their own units. Where one
    failed the difference is larger than any other; where both did, or are equal, there is none (Pratt's way).

    Returns:
        Columns optimizer (the one of better mean rank), other, better and worse (on how many problems), p, holm (p
        corrected), differ (holm at most 5 %), problems.
    """
    data = table(rows, column)
    middles, order = medians(data), list(mean_ranks(rows, column)["optimizer"])
    found = []
    for name, other in itertools.combinations(order, 2):
        gap = log_gaps(*(middles[data.optimizers.index(each)] for each in (name, other)))
        p = signed_rank(gap)
        found.append({
            "optimizer": name, "other": other, "better": int((gap < 0).sum()), "worse": int((gap > 0).sum()),
            "p": p,
        })  # fmt: skip
    result = pd.DataFrame(found, columns=["optimizer", "other", "better", "worse", "p"])
    corrected = holm(result["p"].to_numpy(float))
    return result.assign(holm=corrected, differ=corrected <= ALPHA, problems=len(data.problems))


def problems_needed(optimizers: int) -> int:
    """With how many problems at the least Holm's correction lets a pair differ: fewer cannot, whatever they show.

    The least p of n signed ranks is 2 / 2^n, and the first step multiplies it by the number of pairs.
    """
    return math.ceil(1 + math.log2(math.comb(optimizers, 2) / ALPHA))


def signed_rank(gap: np.ndarray) -> float:
    """The p of Wilcoxon's signed-rank test that differences lie around 0, by Pratt's way with those that are 0.

    Exact also with ties, where scipy tries all 2^n signs: the ways to each sum of ranks are counted one rank at a
    time. Ranks are doubled, so that shared ones are whole.
    """
    sizes = np.abs(gap)
    doubled = (2 * (sizes[:, None] > sizes).sum(axis=1) + (sizes[:, None] == sizes).sum(axis=1) + 1)[gap != 0]
    ways = np.ones(1)
    for rank in doubled:
        ways = np.append(ways, np.zeros(rank)) + np.append(np.zeros(rank), ways)
    chances = ways / ways.sum()
    positive = doubled[gap[gap != 0] > 0].sum()
    return min(1.0, 2 * float(min(chances[: positive + 1].sum(), chances[positive:].sum())))


def log_gaps(mine: np.ndarray, other: np.ndarray) -> np.ndarray:
    """log(mine / other) for each problem; beyond the largest where only one of them is infinite or zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.log(np.abs(mine)) - np.log(np.abs(other))
    # No logarithm of a loss below zero: there only the sign counts.
    gap = np.where((mine <= 0) | (other <= 0), np.where(mine < other, -np.inf, np.inf), gap)
    gap = np.where(mine == other, 0.0, gap)
    known = np.abs(gap[np.isfinite(gap)])
    beyond = (known.max() if len(known) else 0.0) + 1.0
    return np.where(np.isfinite(gap), gap, np.sign(gap) * beyond)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction (1979): the i-th least p times the number of those not less, never decreasing."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.minimum(1.0, p[order] * (len(p) - np.arange(len(p)))))
    corrected = np.empty(len(p))
    corrected[order] = stepped
    return corrected


def cliques(ranked: Frame, tested: Frame) -> Frame:
    """The bars of a critical-difference diagram: the largest runs of neighbours in rank of which no pair differs.

    Args:
        ranked: what `mean_ranks` gives.
        tested: what `pairs` gives.

    Returns:
        Columns clique (0, 1, ...), optimizer, rank; an optimizer can be in several, and is in at least one.
    """
    names = list(ranked["optimizer"])
    apart = {
        frozenset(pair) for pair in tested.loc[tested["differ"], ["optimizer", "other"]].to_numpy().tolist()
    }
    runs: list[tuple[int, int]] = []
    for first in range(len(names)):
        last = first
        while last + 1 < len(names) and not any(
            frozenset((names[i], names[last + 1])) in apart for i in range(first, last + 1)
        ):
            last += 1
        if not runs or last > runs[-1][1]:
            runs.append((first, last))
    return pd.DataFrame(
        [
            {"clique": i, "optimizer": names[j], "rank": ranked["rank"].iloc[j]}
            for i, (first, last) in enumerate(runs)
            for j in range(first, last + 1)
        ]
    )
