"""Ranks over problems, which differences between optimizers are significant, and what their order depends on.

Sources: Friedman 1937; Iman and Davenport 1980; Demsar 2006, JMLR 7:1-30. Differences in mean rank are tested by
random signs of whole problems (step-down max T: Westfall and Young 1993; Romano and Wolf 2005, JASA 100:94-108): their
variance is that of the ranks at hand, so the error rate does not rest on who else is compared, as in the classical test
(Benavoli, Corani and Mangili 2016, JMLR 17(5):1-10). The mean ranks themselves do, and so do AlgoPerf's scores: each
optimizer and each problem is left out in turn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.bootstrap import left_out, medians, resampled_medians, scored, table
from optbench.stats.paired import ALPHA, by_seed, is_exact, leading, mean_difference
from optbench.stats.profiles import contributions

FLIPS = 4096
"""How many signs of the problems are tried."""
LEAST_PROBLEMS = math.ceil(math.log2(2 / ALPHA))
"""The number of problems below which no pair can differ significantly: the least p of n signs is 2 / 2^n."""


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each optimizer on each problem, [..., O, P]: 1 is least, equals (all failures too) share the mean.

    Values are equal that agree in 20 bits, some six digits: float32 has few more, and an equal number of errors can be
    one seed's or the mean of two.
    """
    mantissas, powers = np.frexp(values)
    values = np.ldexp(np.round(mantissas * 2.0**20), powers - 20)
    mine, other = values[..., :, None, :], values[..., None, :, :]
    return 0.5 + (other < mine).sum(axis=-2) + 0.5 * (other == mine).sum(axis=-2)


def mean_ranks(rows: Frame, column: str = "compared") -> Frame:
    """The mean rank of each optimizer over the problems, by its median seed; the least is the best.

    A further column: wins (problems that it leads alone, as `paired.spreads` has it).
    """
    data = table(rows, column)
    each = ranks(medians(data))
    draws = ranks(resampled_medians(data)).mean(axis=-1)
    alone = sole_leaders(rows, column)
    wins = np.array([alone.count(name) for name in data.optimizers])
    within = (1.0, float(len(each)))
    return scored(data, "rank", each.mean(axis=-1), draws, left_out(each), within, up=True, wins=wins)


def sole_leaders(rows: Frame, column: str) -> list[str]:
    """The optimizers that lead alone (`paired.spreads`), one for each problem where one does."""
    found = []
    for _, own in rows.groupby("problem"):
        codes, names = pd.factorize(own["optimizer"], sort=True)
        numbers = by_seed(own, column, codes)
        leads, _ = leading(numbers, int(np.nanmedian(numbers, axis=1).argmin()), is_exact(own))
        found += [str(names[leads.argmax()])] if leads.sum() == 1 else []
    return found


class Friedman(NamedTuple):
    """A test of whether the optimizers differ at all, over the problems."""

    optimizers: int
    problems: int
    chi2: float
    """Friedman's statistic, corrected for ties, with optimizers - 1 degrees of freedom."""
    p: float
    f: float
    """Iman and Davenport's statistic, less conservative."""
    f_p: float


def friedman(rows: Frame, column: str = "compared") -> Friedman:
    """Friedman's test that all optimizers are equal, on the ranks of their median seeds (Demsar 2006, section 3.2.2).

        chi2 = (12 / (n k (k + 1)) sum_o (sum_p rank_op)^2 - 3 n (k + 1)) / (1 - sum_t (t^3 - t) / (n (k^3 - k)))

    for k optimizers on n problems, with t the sizes of the sets of equal ranks on a problem.

    NaN with fewer than three optimizers or two problems. Where all problems agree on one order, F is infinite and
    its p is exact: the number of orders to the power 1 - problems.
    """
    from scipy.special import chdtrc, fdtrc

    data = table(rows, column)
    each = ranks(medians(data))
    k, n = each.shape
    if k < 3 or n < 2:
        return Friedman(k, n, *[math.nan] * 4)
    equal = (each[:, None] == each).sum(axis=1)  # t of each rank, so a set counts t (t^2 - 1) in all
    untied = 1 - float((equal**2 - 1).sum()) / (k * (k * k - 1) * n)
    squares = float((each.sum(axis=1) ** 2).sum())
    # If all are tied everywhere, the statistic is 0 / 0.
    chi2 = (12.0 / (k * n * (k + 1)) * squares - 3 * n * (k + 1)) / untied if untied else 0.0
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 else math.inf
    f_p = float(fdtrc(k - 1, (k - 1) * (n - 1), f))
    if math.isinf(f):
        # Every problem has the same order, and F's tail is 0 even for two of them: count the orders.
        alike = np.unique(each[:, 0], return_counts=True)[1]
        f_p = (math.factorial(k) / math.prod(math.factorial(int(c)) for c in alike)) ** (1 - n)
    return Friedman(k, n, chi2, float(chdtrc(k - 1, chi2)), f, f_p)


def pairs(rows: Frame, column: str = "compared") -> Frame:
    """Each pair of optimizers, and whether their mean ranks differ (`chances`).

    Columns optimizer (the one of better mean rank), other, better and worse (numbers of problems), p, differ (p at most
    5 %), problems.
    """
    data, found = table(rows, column), []
    each = ranks(medians(data))
    p = chances(each)
    order = sorted(zip(each.mean(axis=-1), data.optimizers, range(len(each)), strict=True))
    for (_, name, i), (_, other, j) in itertools.combinations(order, 2):
        better, worse = int((each[i] < each[j]).sum()), int((each[i] > each[j]).sum())
        found.append((name, other, better, worse, p[i, j], p[i, j] <= ALPHA, len(data.problems)))
    return pd.DataFrame(found, columns=["optimizer", "other", "better", "worse", "p", "differ", "problems"])


def chances(each: np.ndarray) -> np.ndarray:
    """The p of every pair of optimizers [O, O] from ranks [O, P]; one of equal ones is below 5 % in 5 % of tables.

    Between equal optimizers the difference in rank on a problem is as likely to have either sign. Every problem gets a
    random sign, for all optimizers alike; p is the chance that the largest difference in mean rank, of this pair and
    all with a smaller one, is then as large as this pair's was.
    """
    total, flipped = each.sum(axis=-1), flips_of(each)
    first, second = np.triu_indices(len(each), 1)
    observed = np.abs(total[first] - total[second])
    smallest = np.argsort(observed)
    largest, p = np.zeros(len(flipped)), np.empty(len(observed))
    for k in smallest:
        np.maximum(largest, np.abs(flipped[:, first[k]] - flipped[:, second[k]]), out=largest)
        p[k] = (largest >= observed[k]).mean()
    # A larger difference never has a larger p.
    p[smallest] = np.maximum.accumulate(p[smallest][::-1])[::-1]
    found = np.ones((len(each), len(each)))
    found[first, second] = found[second, first] = p
    return found


def candidates(rows: Frame, column: str = "compared") -> list[str]:
    """The optimizers that may be the best over such problems (`may_be_best`), in the order of mean ranks."""
    data = table(rows, column)
    each = ranks(medians(data))
    order = sorted(zip(each.mean(axis=-1), data.optimizers, may_be_best(each), strict=True))
    return [name for _, name, may in order if may]


def may_be_best(each: np.ndarray) -> np.ndarray:
    """Which optimizers, from ranks [O, P], form a set that holds the best with 95 % confidence: [O].

    Out is whom another one leads in mean rank by more than the largest lead of 95 % of the random signs of `chances`.
    Only the best must not be left out, so nothing is corrected for the number that is tested (subset selection; Gupta
    1965, Technometrics 7:225-245).
    """
    total, flipped = each.sum(axis=-1), flips_of(each)
    lead = [((flipped[:, [i]] - flipped).max(axis=-1), (total[i] - total).max()) for i in range(len(each))]
    return np.array([(random >= observed).mean() > ALPHA for random, observed in lead])


def flips_of(each: np.ndarray) -> np.ndarray:
    """Sums of the ranks [O, P] over the problems, each problem's from their mean and with a random sign: [flips, O].

    All 2^P signs where these are at most `FLIPS`; else so many drawn from a fixed seed, the observed ones among them.
    """
    count = each.shape[1]
    if 2**count <= FLIPS:
        signs = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], (FLIPS, count))
        signs[0] = 1
    return signs @ (each - each.mean(axis=0)).T


def cliques(ranked: Frame, tested: Frame) -> Frame:
    """The bars of a critical-difference diagram: the largest runs of neighbours in rank of which no pair differs.

    From `mean_ranks` and `pairs`. Columns clique (0, 1, ...), optimizer, rank; an optimizer can be in several.
    """
    names = list(ranked["optimizer"])
    pairs_ = tested.loc[tested["differ"], ["optimizer", "other"]].itertuples(index=False)
    apart = [sorted(map(names.index, pair)) for pair in pairs_]
    parts, end = [], 0
    for first in range(len(names)):
        after = min((worse for better, worse in apart if better >= first), default=len(names))
        if after > end:
            parts.append(ranked.iloc[first:after][["optimizer", "rank"]].assign(clique=len(parts)))
            end = after
    return pd.concat(parts, ignore_index=True)[["clique", "optimizer", "rank"]]


def flips(rows: Frame) -> Frame:
    """Every pair of optimizers whose order changes when one other optimizer, or one problem, is left out.

    A pair that then shares a mean rank is listed too, but has not `flipped`; one that shares it before has no order.
    Columns left_out, kind ('optimizer' or 'problem'), ahead and behind (their order of mean ranks with everything
    included), before and after (the lead of `ahead`; negative once it is behind), says (the sentence).
    """
    data, found = table(rows, "compared"), []
    middles, every = medians(data), range(len(data.optimizers))
    whole = ranks(middles).mean(axis=-1)
    out = [(0, "optimizer", *each) for each in enumerate(data.optimizers) if len(every) > 2]
    out += [(1, "problem", *each) for each in enumerate(data.problems) if len(data.problems) > 1]
    for axis, kind, place, name in out:
        rest = ranks(np.delete(middles, place, axis)).mean(axis=-1)
        kept = [i for i in every if axis == 1 or i != place]
        for (a, i), (b, j) in itertools.combinations(enumerate(kept), 2):
            before, after = whole[j] - whole[i], rest[b] - rest[a]
            if abs(before) < 1e-12 or (abs(after) > 1e-12 and np.sign(before) == np.sign(after)):
                continue
            ahead, behind = (data.optimizers[k] for k in ((i, j) if before > 0 else (j, i)))
            gap = -abs(float(after)) if abs(after) > 1e-12 else 0.0
            change, far = ("falls behind", f", by {-gap:.2g}") if gap else ("draws level with", "")
            what = f"task {name}" if kind == "problem" else name
            says = f"Without {what}, {ahead} {change} {behind} (mean rank{far})."
            found.append((name, kind, ahead, behind, abs(float(before)), gap, gap < 0, says))
    columns = ["left_out", "kind", "ahead", "behind", "before", "after", "flipped", "says"]
    return pd.DataFrame(found, columns=columns)


def ordering(
    rows: Frame, by: str, rule: str = "exact", held_out: Mapping[str, str] | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Optimizers, and what each problem gives them [O, P], more being better: minus the 'rank', or AlgoPerf's 'score'.

    The score is by a rule of `profiles.contributions`.
    """
    data = table(rows, {"rank": "compared", "score": "time"}[by])
    if by == "rank":
        return data.optimizers, -ranks(medians(data))
    return data.optimizers, contributions(medians(data), data.problems, rule, held_out)


def disagreements(
    rows: Frame, rule: str = "exact", held_out: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """Pairs of which the first has the better mean rank and the second the better AlgoPerf score."""
    (names, ranked), (_, scored) = (ordering(rows, by, rule, held_out) for by in ("rank", "score"))
    rank, score = ranked.mean(axis=-1), scored.mean(axis=-1)
    ahead = (rank[:, None] > rank + 1e-12) & (score[:, None] < score - 1e-12)
    return [(names[i], names[j]) for i, j in np.argwhere(ahead)]


def lead_of_first(
    rows: Frame, by: str = "rank", rule: str = "exact", held_out: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The lead of the first `optimizer` of an `ordering` over the second, `other`, with its interval and p."""
    names, each = ordering(rows, by, rule, held_out)
    first, second = np.argsort(-each.mean(axis=-1), kind="stable")[:2]
    return {"optimizer": names[first], "other": names[second], **mean_difference(each[first] - each[second])}
