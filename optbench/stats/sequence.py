"""A confidence sequence for the mean of paired differences, and the verdicts that follow from it.

d_i is log10 of the loss of one optimizer over the loss of another with seed i. For differences from N(mu, sigma^2),
both unknown, the scale-invariant likelihood ratio of mean m to mean mu, averaged over (m - mu) / sigma ~ N(0, g), is

    E_n(mu) = (1 + n g)^(-1/2) (V / (V - S^2 / (n + 1/g)))^(n/2),   S = sum_i (d_i - mu),   V = sum_i (d_i - mu)^2

It is a martingale of mean 1 if mu is the mean, whatever sigma is. By Ville's inequality the interval of all mu with
E_n(mu) < 1 / alpha holds the mean at all n at once with probability 1 - alpha: one may look, and stop, after any seed.

Sources: Lai 1976, doi:10.1214/aos/1176343406; Wang and Ramdas 2023, arXiv:2310.03722. Differences of real runs are not
normal; tests/test_try.py measures the error rate on stored ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SPREAD = 0.7
"""g, the variance of effect sizes. With it a true effect for which a fixed paired t test of 10 to 100 seeds has power
0.8 takes 1.3 to 1.5 times the seeds of that test on average (0.3 to 0.8 times at twice the effect)."""
LEAST = 6
"""Seeds before the first look: fewer say little about how differences are distributed."""
GROWTH = 1.2
"""How many times the seeds of a look the next one has."""
FAR = 100_000
"""Seeds beyond which no number is given."""


class Estimate(NamedTuple):
    """The mean difference with its interval, in decades."""

    seeds: int
    mean: float
    sd: float
    low: float
    high: float

    @property
    def direction(self) -> str | None:
        """`better` (a lower loss), `worse`, or None where the interval holds 0."""
        return "better" if self.high < 0 else "worse" if self.low > 0 else None

    def verdict(self, margin: float) -> str:
        """`equivalent` where the ratio lies inside 1 / margin to margin, else the direction, or `cannot tell yet`."""
        inside = max(-self.low, self.high) < math.log10(margin)
        return "equivalent" if inside else self.direction or "cannot tell yet"


def half_width(seeds: int, sd: float, alpha: float) -> float:
    """Half of the interval's width for a standard deviation; infinite while there are too few seeds."""
    prior = seeds + 1 / SPREAD
    share = -math.expm1(-(2 * math.log(1 / alpha) + math.log1p(seeds * SPREAD)) / seeds)
    left = seeds - share * prior
    return sd * math.sqrt(share * prior * (seeds - 1) / (seeds * left)) if left > 0 else math.inf


def estimate(differences: np.ndarray, alpha: float) -> Estimate:
    """What some differences say of their mean."""
    mean, sd = float(np.mean(differences)), float(np.std(differences, ddof=1))
    half = half_width(len(differences), sd, alpha)
    return Estimate(len(differences), mean, sd, mean - half, mean + half)


def looks(most: int) -> list[int]:
    """The numbers of seeds after which the sequence is looked at."""
    found = [min(LEAST, most)]
    while found[-1] < most:
        found.append(min(most, max(found[-1] + 2, math.ceil(found[-1] * GROWTH))))
    return found


def seeds_needed(known: Estimate, margin: float, alpha: float) -> float:
    """About how many seeds a verdict takes if mean and deviation are as estimated; infinite if more than `FAR`."""
    size, seeds = abs(known.mean), known.seeds
    while seeds < FAR:
        if half_width(seeds, known.sd, alpha) < max(size, math.log10(margin) - size):
            return seeds
        seeds = math.ceil(seeds * 1.05)
    return math.inf


def overall(verdicts: Sequence[str]) -> str:
    """The verdict over tasks: `mixed` where one is better and another worse."""
    directions = {"better", "worse"} & set(verdicts)
    if directions:
        return directions.pop() if len(directions) == 1 else "mixed"
    if "cannot tell yet" in verdicts:
        return "cannot tell yet"
    return "identical" if set(verdicts) == {"identical"} else "equivalent"
