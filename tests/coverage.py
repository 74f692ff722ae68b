"""The measured coverage of intervals and error rates of tests, by simulation with the package's own functions.

python -m tests.coverage [DRAWS]     rewrites the table in docs/methodology.md, in some ten minutes
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from optbench.stats import (
    aggregates,
    bootstrap,
    curves,
    paired,
    profiles,
    ranking,
    scaling,
    summary,
    times,
    tunability,
)

PAGE = Path(__file__).parent.parent / "docs" / "methodology.md"
BEGIN, END = "<!-- coverage: python -m tests.coverage -->", "<!-- end of coverage -->"
DRAWS = 2000


class Entry(NamedTuple):
    """One line of the table; `simulate` gives for each of many draws whether an interval covers or a test rejects."""

    what: str
    setting: str
    nominal: str
    simulate: Callable[[np.random.Generator, int], np.ndarray]

    @property
    def exact(self) -> bool:
        """Whether the rate is known and not only aimed at."""
        return self.what in ("interval of a median", "ratio of two optimizers", "ends below a fixed target")


ENTRIES: list[Entry] = []


def settings(what: str, *rows: tuple):
    """A simulation of one draw, for some settings: (words, nominal rate, arguments ...)."""

    def register(one: Callable) -> Callable:
        for words, nominal, *given in rows:

            def many(generator, draws, given=tuple(given)):
                return np.array([one(generator, *given) for _ in range(draws)], bool)

            ENTRIES.append(Entry(what, words, nominal, many))
        return one

    return register


def losses(generator, optimizers, seeds, rho=0.0):
    """Losses whose log10 has a standard deviation of 1 over seeds, with correlation rho between optimizers."""
    shared, own = generator.normal(size=seeds), generator.normal(size=(optimizers, seeds))
    return 10 ** (math.sqrt(rho) * shared + math.sqrt(1 - rho) * own)


@settings(
    "interval of a median",
    *((f"{n} seeds", f"{100 * curves.coverage(n):.1f}", n) for n in (5, 6, 7, 8, 9, 10, 25)),
)
def median(generator, seeds):
    _, low, high = curves.median_interval(np.exp(generator.normal(size=seeds)))
    return low <= 1 <= high


@settings(
    "leads alone",
    ("2 equal optimizers, 5 seeds, rho 0", "at most 5.0", 5, 0, 0.0, 1),
    ("2 equal optimizers, 5 seeds, rho 0.9", "at most 5.0", 5, 0, 0.9, 1),
    ("3 equal optimizers, 5 seeds, rho 0.5", "at most 5.0", 5, 0, 0.5, 2),
    ("1 seed sd better than 1 other, 5 seeds, rho 0.5", "power", 5, 1, 0.5, 1),
    ("1 seed sd better than 2 others, 5 seeds, rho 0.5", "power", 5, 1, 0.5, 2),
    ("1 seed sd better than 2 others, 5 seeds, rho 0.9", "power", 5, 1, 0.9, 2),
    ("1 seed sd better than 2 others, 10 seeds, rho 0.5", "power", 10, 1, 0.5, 2),
    ("2 seed sds better than 2 others, 5 seeds, rho 0.5", "power", 5, 2, 0.5, 2),
    ("3 seed sds better than 2 others, 5 seeds, rho 0.5", "power", 5, 3, 0.5, 2),
)
def alone(generator, seeds, behind, rho, others):
    values = losses(generator, others + 1, seeds, rho)
    values[1:] *= 10.0**behind
    leads, _ = paired.leading(values, int(np.median(values, axis=1).argmin()))
    return leads.sum() == 1 and (behind == 0 or leads[0])


@settings("ratio of two optimizers", ("5 seeds", "95.0", 5), ("10 seeds", "95.0", 10))
def ratio(generator, seeds):
    gaps = paired.log_gaps(*losses(generator, 2, seeds))
    return abs(gaps.mean()) <= paired.half_width(gaps)


@settings(
    "share of seeds that reach",
    ("5 seeds, true 70 %", "at least 95.0", 5),
    ("10 seeds, true 70 %", "at least 95.0", 10),
)
def share(generator, seeds):
    low, high = paired.share_interval(int((generator.random(seeds) < 0.7).sum()), seeds)
    return low <= 0.7 <= high


@settings("ends below a fixed target", ("mean log at the target, 5 seeds", "5.0", 5))
def below(generator, seeds):
    return paired.below(losses(generator, 1, seeds)[0], 1.0) < 0.05


@functools.cache
def true_times(spread, chance):
    """The budget that a share of runs reaches, the expected running time, and the penalised mean."""
    many = np.exp(spread * np.random.default_rng(0).normal(size=10**6))
    budget = float(np.quantile(many, chance)) if chance < 1 else 1e9
    reached = many <= budget
    penalised = np.where(reached, many, times.PENALTY * budget).mean()
    return budget, np.minimum(many, budget).mean() / reached.mean(), penalised


TIMES = [(5, 0.3, 1.0), (5, 1.0, 1.0), (5, 0.3, 0.7), (10, 0.3, 0.7), (20, 0.3, 0.7)]
TIME_SETTINGS = [(f"{n} seeds, log sd {sd}, {100 * c:.0f} % reach", "95.0", n, sd, c) for n, sd, c in TIMES]


@settings("expected running time", *TIME_SETTINGS)
def expected(generator, seeds, spread, chance):
    budget, truth, _ = true_times(spread, chance)
    values = np.exp(spread * generator.normal(size=seeds))
    _, low, high = times.mean_ratio(np.minimum(values, budget), values <= budget)
    return low <= truth <= high


@settings("penalised mean", *TIME_SETTINGS)
def penalised(generator, seeds, spread, chance):
    budget, _, truth = true_times(spread, chance)
    values = np.exp(spread * generator.normal(size=seeds))
    values = np.where(values <= budget, values, times.PENALTY * budget)
    _, low, high = times.mean_ratio(values, np.ones(seeds))
    return low <= truth <= high


@settings(
    "median best of 9 trials",
    ("5 seeds, flat response", "at least 95.0", 5, 0.0),
    ("10 seeds, flat response", "at least 95.0", 10, 0.0),
    ("5 seeds, 0.8 seed sds per trial", "at least 95.0", 5, 0.8),
)
def best_of(generator, seeds, slope):
    values = np.exp(generator.normal(size=(9, seeds)) + slope * abs(np.arange(9) - 4)[:, None])
    bands = np.sort([tunability.band(each, 9) for each in values], axis=0)
    low, high = tunability.median_best(bands.T)
    return low[-1] <= 1 <= high[-1]


def swept(generator, seeds, slope):
    """Losses at nine learning rates half a decade apart, the fifth the best, with correlation 0.5 between them."""
    return losses(generator, 9, seeds, 0.5) * 10.0 ** (slope * abs(np.arange(9) - 4))[:, None]


@settings(
    "range of the best learning rate",
    ("5 seeds, 0.3 seed sds per half decade", "95.0", 5, 0.3),
    ("5 seeds, 1 seed sd per half decade", "95.0", 5, 1.0),
)
def best_rate(generator, seeds, slope):
    values = swept(generator, seeds, slope)
    kept = np.flatnonzero(paired.leading(values, int(np.median(values, axis=1).argmin()))[0])
    return kept.min() <= 4 <= kept.max()


@settings(
    "decades that work",
    ("5 seeds, 1 seed sd per half decade", "none", 5, 1.0),
    ("5 seeds, 3 seed sds per half decade", "none", 5, 3.0),
)
def decades(generator, seeds, slope):
    """The true medians of three neighbouring learning rates reach the target."""
    ends = np.sort(swept(generator, seeds, slope) <= 10.0 ** (1.5 * slope), axis=1)
    low, high = curves.ranks(seeds)
    widths = [
        np.diff(summary.longest_run(works))[0] if works.any() else 0
        for works in (ends[:, low], ends[:, high])
    ]
    return widths[0] <= 3 <= widths[1]


OPTIMIZERS, PROBLEMS = 4, 7


def scores(medians):
    """AlgoPerf's scores and mean ranks from medians [..., O, P]."""
    return {
        "AlgoPerf score": profiles.contributions(medians, range(medians.shape[-1])),
        "mean rank": ranking.ranks(medians),
    }


def effects(generator, problems):
    """Log times of optimizers on random problems; the second optimizer is faster on average."""
    return generator.normal(size=(OPTIMIZERS, problems)) - 0.5 * (np.arange(OPTIMIZERS) == 1)[:, None]


def medians_of(generator, log_times, seeds):
    return np.exp(log_times + np.median(0.5 * generator.normal(size=(seeds, *log_times.shape)), axis=0))


@functools.cache
def true_scores():
    """Over very many problems, at five seeds."""
    generator = np.random.default_rng(1)
    return {
        name: each.mean(axis=-1)
        for name, each in scores(medians_of(generator, effects(generator, 50_000), 5)).items()
    }


OVER_PROBLEMS = [(f"{n} problems", "95.0", n) for n in (PROBLEMS, 14)]


def over_problems(name, generator, problems):
    each = scores(medians_of(generator, effects(generator, problems), 5))[name][1]
    low, high = bootstrap.over_problems(each.mean(), bootstrap.left_out(each), (0, OPTIMIZERS))
    return low <= true_scores()[name][1] <= high


settings("AlgoPerf score, over problems", *OVER_PROBLEMS)(functools.partial(over_problems, "AlgoPerf score"))
settings("mean rank, over problems", *OVER_PROBLEMS)(functools.partial(over_problems, "mean rank"))


@settings("difference of two mean ranks, over problems", *OVER_PROBLEMS)
def difference(generator, problems):
    each = scores(medians_of(generator, effects(generator, problems), 5))["mean rank"]
    gaps, truth = each[0] - each[1], true_scores()["mean rank"]
    return abs(gaps.mean() - (truth[0] - truth[1])) <= paired.half_width(gaps)


def table_of(generator, log_times, seeds):
    values = np.exp(log_times[..., None] + 0.5 * generator.normal(size=(*log_times.shape, seeds)))
    names = [tuple(map(str, range(size))) for size in log_times.shape]
    return bootstrap.Table(*names, np.sort(values, axis=-1), np.full(log_times.shape, seeds))


def over_seeds(name, seeds, generator, draws):
    """Of seven fixed problems whose true medians are known; all draws in one table, as further problems."""
    fixed = effects(np.random.default_rng(3), PROBLEMS)
    data = table_of(generator, np.tile(fixed, draws), seeds)
    resampled = bootstrap.resampled_medians(data, 300).reshape(300, OPTIMIZERS, draws, PROBLEMS)
    low, high = bootstrap.interval(scores(np.moveaxis(resampled, 1, 2))[name].mean(axis=-1)[..., 1])
    truth = scores(np.exp(fixed))[name].mean(axis=-1)[1]
    return (low <= truth) & (truth <= high)


ENTRIES += [
    Entry(f"{name}, over seeds", f"7 problems, {n} seeds", "95.0", functools.partial(over_seeds, name, n))
    for name in ("AlgoPerf score", "mean rank")
    for n in (5, 10)
]


@functools.cache
def true_interquartile_mean():
    generator = np.random.default_rng(4)
    data = table_of(generator, effects(np.random.default_rng(3), PROBLEMS), 20_001)
    data = data._replace(values=1 / (1 + data.values))
    return aggregates.trimmed_means(data, np.ones((1, *data.values.shape)))[0, 1]


@settings("interquartile mean, over seeds", ("7 problems, 5 seeds", "95.0", 5))
def interquartile(generator, seeds):
    data = table_of(generator, effects(np.random.default_rng(3), PROBLEMS), seeds)
    data = data._replace(values=1 / (1 + data.values))
    low, high = bootstrap.interval(aggregates.trimmed_means(data, bootstrap.resampled_weights(data, 300)))
    return low[1] <= true_interquartile_mean() <= high[1]


STEPS = 250.0 * 2 ** np.arange(4)
BATCHES = 4.0 * 4 ** np.arange(4)


def on_a_law(generator, spread, rho=0.5):
    """Losses [4 optimizers, 4 numbers of steps, 5 seeds] on a random law, with seeds in common, and its speed-ups."""
    c, a, b = generator.uniform(0, 1.5), np.exp(generator.uniform(1, 3)), generator.uniform(0.3, 0.8)
    speedups = np.r_[1, np.exp(generator.uniform(-0.7, 0.7, 3))]
    clean = c + a * (speedups[:, None] * STEPS) ** -b
    common, own = generator.normal(size=(1, 1, 5)), generator.normal(size=(*clean.shape, 5))
    noise = np.sqrt(rho) * common + np.sqrt(1 - rho) * own
    return clean[..., None] * np.exp(spread * noise), speedups


@settings("speed-up over steps", *((f"5 seeds of sd {100 * sd:g} %", "95.0", sd) for sd in (0.003, 0.03)))
def speedup(generator, spread):
    losses, speedups = on_a_law(generator, spread)
    found = scaling.law(losses, STEPS).speedups[1]
    return found.low <= speedups[1] <= found.high


@settings("change of a speed-up", ("5 seeds of sd 1 %", "95.0", 0.01))
def trend(generator, spread):
    found = scaling.law(on_a_law(generator, spread)[0], STEPS).trends[1]
    return found.low <= 1 <= found.high


@settings("critical batch size", ("5 seeds of sd 5 %", "95.0", 0.05))
def critical(generator, spread):
    batch = np.exp(generator.uniform(1, 4))
    steps = 100 * (1 + batch / BATCHES)[:, None] * np.exp(spread * generator.normal(size=(4, 5)))
    found = scaling.critical_batch(steps, BATCHES)[1]
    return found.low <= batch <= found.high


def ranked(generator, means, problems, spread=1.0):
    """Ranks [O, P] of optimizers with these mean log losses, a tenth of which spread more over the problems."""
    spreads = np.where(np.arange(len(means)) < len(means) / 10, spread, 1.0)
    return ranking.ranks(generator.normal(means, spreads, (problems, len(means))).T)


@settings(
    "an equal pair differs in mean rank",
    ("10 equal optimizers, 10 problems", "at most 5.0", [0.0] * 10, 10),
    ("40 equal optimizers, 10 problems", "at most 5.0", [0.0] * 40, 10),
    ("5 equal and 5 far better ones, 10 problems", "at most 5.0", [0.0, 9.0] * 5, 10),
    ("20 equal optimizers, 2 of them vary 50 times as much, 7 problems", "at most 5.0", [0.0] * 20, 7, 50.0),
)
def equal_pairs(generator, means, problems, spread=1.0):
    equal = np.equal.outer(means, means)
    return (ranking.chances(ranked(generator, means, problems, spread))[equal] <= paired.ALPHA).any()


@settings(
    "a pair differs in mean rank",
    ("1.5 problem sds better than 2 others, 7 problems", "power", [-1.5, *[0.0] * 2], 7),
    ("1.5 problem sds better than 2 others, 12 problems", "power", [-1.5, *[0.0] * 2], 12),
    ("1.5 problem sds better than 39 others, 12 problems", "power", [-1.5, *[0.0] * 39], 12),
)
def pair(generator, means, problems):
    return ranking.chances(ranked(generator, means, problems))[0, 1] <= paired.ALPHA


@settings(
    "a best one is no candidate",
    ("4 equal optimizers and a worse one, 10 problems", "at most 5.0", [*[0.0] * 4, 9.0], 10),
    (
        "40 equal optimizers, 4 of them vary 50 times as much, 10 problems",
        "at most 5.0",
        [0.0] * 40,
        10,
        50.0,
    ),
)
def left_out(generator, means, problems, spread=1.0):
    return not ranking.may_be_best(ranked(generator, means, problems, spread))[0]


def rate(each: Entry, draws: int, seed: int = 0) -> float:
    return float(each.simulate(np.random.default_rng((seed, ENTRIES.index(each))), draws).mean())


def table(draws: int) -> str:
    lines = [
        f"| what | setting | nominal, % | measured, % of {draws:,} draws |",
        "|---|---|---|---|",
        *(f"| {e.what} | {e.setting} | {e.nominal} | {100 * rate(e, draws):.1f} |" for e in ENTRIES),
    ]
    return "\n".join(lines)


def committed() -> dict[tuple[str, str], float]:
    """The measured rates of the page."""
    text = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    lines = [line.strip("| ").split(" | ") for line in text.strip().splitlines()[2:]]
    return {(line[0], line[1]): float(line[3]) / 100 for line in lines}


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    made = table(int(sys.argv[1]) if len(sys.argv) > 1 else DRAWS)
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}")
