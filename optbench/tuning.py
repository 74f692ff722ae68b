"""Tuning rulesets: which trials every optimizer gets, and which seeds choose and which report.

    grid      evenly spaced over the swept range of the learning rate, four decades for all
    random    drawn from the ranges of all that an optimizer searches
    quasi     the same, spread evenly: a scrambled Halton sequence

All optimizers of a suite get the same number of trials. Random points waste fewer of them on what does not matter
than a grid (Bergstra and Bengio 2012, JMLR 13:281-305), quasi-random points fewer still (Bousquet et al. 2017,
arXiv:1706.03200). Points are the same in every run, and the first of many are those of few.

Seeds come in blocks, so that a stored row says what it was for: those below 1000 are a grid's, the next thousand
choose among random and quasi-random trials, the next report what won, having chosen nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from optbench.optimizer import Optimizer

RULESETS = ("grid", "random", "quasi")
BLOCK = 1000
"""Seeds in a block, and so the most that a suite can run."""
CHOOSING = {"grid": 0, "random": BLOCK, "quasi": BLOCK}
"""The first seed that chooses among trials."""
FRESH = 2 * BLOCK
"""The first seed that reports what won."""


class Trial(NamedTuple):
    """One setting that an optimizer is tried at."""

    at: Optimizer
    place: float | None
    """What it is called by: the value of the first thing that is searched, most often the learning rate."""


def moved(optimizer: Optimizer, ruleset: str, dimensions: int | None = None) -> tuple[str, ...]:
    """The hyperparameters that a ruleset moves, so many at most; trials are called by the first one."""
    if ruleset != "grid":
        return tuple(optimizer.searched())[:dimensions]
    swept = optimizer.swept()
    return () if swept is None else (swept.name,)


@functools.lru_cache(maxsize=1024)
def trials(
    optimizer: Optimizer, ruleset: str, count: int, dimensions: int | None = None
) -> tuple[Trial, ...]:
    """The trials of one optimizer, kept for its other tasks; one, where it declares nothing that the ruleset moves."""
    names = moved(optimizer, ruleset, dimensions)
    if not names:
        return (Trial(optimizer, None),)
    if ruleset == "grid":
        made = optimizer.trials(count)
    else:  # a few more than asked for, should some be rounded to the same number
        made = [optimizer.at(place) for place in points(len(names), ruleset, count + 8)]
    found: dict[float, Optimizer] = {}
    for at in made:
        found.setdefault(getattr(at, names[0]), at)
    return tuple(Trial(at, place) for place, at in found.items())[:count]


@functools.cache
def points(dimensions: int, ruleset: str, count: int) -> tuple[tuple[float, ...], ...]:
    """Points of the unit cube; the first of many are those of few."""
    if ruleset == "random":
        import numpy as np

        return tuple(map(tuple, np.random.default_rng(0).random((count, dimensions)).tolist()))
    from scipy.stats import qmc

    return tuple(map(tuple, qmc.Halton(dimensions, scramble=True, rng=0).random(count).tolist()))


def trials_at(optimizer: Optimizer, learning_rates: Sequence[float]) -> tuple[Trial, ...]:
    """The optimizer at given learning rates; as it is, where it has none to sweep."""
    swept = optimizer.swept()
    if swept is None:
        return (Trial(optimizer, None),)
    return tuple(Trial(optimizer.replace(**{swept.name: rate}), rate) for rate in learning_rates)


def seeds(first: int, count: int, seeded: bool) -> range:
    """The seeds of a block; one, where a task's seed changes nothing."""
    return range(first, first + (count if seeded else 1))
