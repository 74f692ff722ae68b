"""The measured coverage of intervals and error rates of tests, by simulation with the package's own functions.

python -m tests.coverage [DRAWS]     rewrites the table in docs/methodology.md; 2,000 draws take about five minutes
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from optbench.stats import aggregates, bootstrap, curves, paired, profiles, ranking, summary, times, tunability

PAGE = Path(__file__).parent.parent / "docs" / "methodology.md"
BEGIN, END = "<!-- coverage: python -m tests.coverage -->", "<!-- end of coverage -->"
DRAWS = 2000


class Entry(NamedTuple):
    """One line of the table; `simulate` says for one draw whether the interval covers, or the test rejects."""

    what: str
    setting: str
    nominal: str
    simulate: Callable[[np.random.Generator], bool]


def logs(generator, shape, rho=0.0):
    """Logarithms of losses with a standard deviation of 1 over seeds, of which a part rho is common to all optimizers."""
    own = generator.normal(size=shape)
    return math.sqrt(rho) * generator.normal(size=(1, *shape[1:])) + math.sqrt(1 - rho) * own


def outcomes_of(values, column="compared", **others):
    """Outcomes of one problem from an array [optimizers, seeds]."""
    optimizer, seed = np.indices(values.shape)
    numbers = {"optimizer": optimizer.ravel().astype(str), "seed": seed.ravel(), column: values.ravel()}
    return pd.DataFrame(numbers | others)


def median(generator, seeds):
    _, low, high = curves.median_interval(np.exp(generator.normal(size=seeds)))
    return low <= 1 <= high


def alone(generator, seeds, behind, rho, others=1):
    """Whether the first of the optimizers, which is `behind` seed sds better than the others, leads alone."""
    values = 10 ** (logs(generator, (others + 1, seeds), rho) + behind * (np.arange(others + 1) > 0)[:, None])
    leading = paired.spreads(outcomes_of(values), "compared").query("leads").index
    return len(leading) == 1 and (behind == 0 or leading[0] == "0")


def ratio(generator, seeds, rho):
    row = paired.differences(outcomes_of(10 ** logs(generator, (2, seeds), rho))).iloc[0]
    return row["low"] <= 1 <= row["high"]


def share(generator, seeds, chance):
    low, high = paired.share_interval(int((generator.random(seeds) < chance).sum()), seeds)
    return low <= chance <= high


def below(generator, seeds):
    return paired.below(10 ** generator.normal(size=seeds), 1.0) < 0.05


@functools.cache
def true_times(spread, chance):
    """The budget that a share of runs reaches, the expected running time, and the penalised mean."""
    many = np.exp(spread * np.random.default_rng(0).normal(size=10**6))
    budget = float(np.quantile(many, chance)) if chance < 1 else 1e9
    reached = many <= budget
    penalised = np.where(reached, many, times.PENALTY * budget).mean()
    return budget, np.minimum(many, budget).mean() / reached.mean(), penalised


def running_time(generator, seeds, spread, chance, name):
    budget, *truth = true_times(spread, chance)
    values = np.exp(spread * generator.normal(size=(1, seeds)))
    rows = outcomes_of(np.where(values <= budget, values, np.inf), "time", problem="p", budget=budget)
    row = times.times_to_target(rows).iloc[0]
    return row[f"{name}_low"] <= truth[name == "par"] <= row[f"{name}_high"]


def best_of(generator, seeds, slope):
    """The median best of all nine trials, at a response that rises by `slope` seed sds per trial from the best."""
    values = np.exp(generator.normal(size=(9, seeds)) + slope * abs(np.arange(9) - 4)[:, None])
    rows = outcomes_of(values, "selection", **dict.fromkeys(tunability.KEYS[:-1], "p"))
    rows = rows.rename(columns={"optimizer": "trial"}).assign(optimizer="a")
    row = tunability.best_of_trials(rows).iloc[-1]
    return row["low"] <= 1 <= row["high"]


def swept(generator, seeds, slope):
    """Trials of one optimizer half a decade apart, the fifth the best; the first target is two slopes above it."""
    values = np.exp(logs(generator, (9, seeds), 0.5) + slope * abs(np.arange(9) - 4)[:, None])
    rows = outcomes_of(values, "selection", finish=math.inf, seeded=True)
    rows["trial"] = 10.0 ** (rows["optimizer"].astype(int) / 2)
    return rows.assign(works=np.where(rows["selection"] <= math.exp(1.5 * slope), 1.0, math.inf))


def best_rate(generator, seeds, slope):
    low, high = summary.rate_range(swept(generator, seeds, slope))
    return low <= 100 * (1 + 1e-9) and high >= 100 * (1 - 1e-9)


def decades(generator, seeds, slope):
    found = summary.working_range(swept(generator, seeds, slope))
    return np.nan_to_num(found["decades_low"]) <= 1 + 1e-9 and found["decades_high"] >= 1 - 1e-9


OPTIMIZERS, MANY = 4, 4000


def statistics(data):
    """Score, mean rank and interquartile mean of each optimizer from a table of times."""
    medians = bootstrap.medians(data)
    ones = (np.arange(data.values.shape[-1]) < data.counts[..., None]).astype(float)
    progress = data._replace(values=1 / (1 + data.values))
    return {
        "score": profiles.contributions(medians, data.problems).mean(axis=-1),
        "rank": ranking.ranks(medians).mean(axis=-1),
        "iqm": aggregates.trimmed_means(progress, ones[None])[0],
    }


def times_of(effects, generator, seeds):
    """Times from effects [optimizers, problems] and noise of the seeds, as a table."""
    values = np.exp(effects[..., None] + 0.5 * generator.normal(size=(*effects.shape, seeds)))
    names = tuple(map(str, range(effects.shape[1])))
    counts = np.full(effects.shape, seeds)
    return bootstrap.Table(tuple(map(str, range(len(effects)))), names, np.sort(values, axis=-1), counts)


def rows_of(data):
    o, p, s = (index.ravel() for index in np.indices(data.values.shape))
    values = data.values.ravel()
    frame = {"optimizer": o.astype(str), "problem": p.astype(str), "seed": s, "time": values, "compared": values}
    return pd.DataFrame(frame | {"progress": 1 / (1 + values)})


TABLES = {
    "score": profiles.algoperf_scores,
    "rank": lambda rows: ranking.mean_ranks(rows.assign(seed=0)),
    "iqm": aggregates.interquartile_means,
}


def effects(generator, problems):
    """How fast optimizers are on random problems; the second is better on average."""
    return generator.normal(size=(OPTIMIZERS, problems)) - 0.5 * (np.arange(OPTIMIZERS) == 1)[:, None]


@functools.cache
def truth_over_problems(seeds):
    return statistics(times_of(effects(np.random.default_rng(1), MANY), np.random.default_rng(2), seeds))


def over_problems(generator, problems, name):
    found = TABLES[name](rows_of(times_of(effects(generator, problems), generator, 5)))
    row = found[found["optimizer"] == "1"].iloc[0]
    return row["low_tasks"] <= truth_over_problems(5)[name][1] <= row["high_tasks"]


@functools.cache
def truth_over_seeds(name):
    """The statistic of the true medians of seven fixed problems; the interquartile mean of very many seeds."""
    fixed = effects(np.random.default_rng(3), 7)
    return fixed, statistics(times_of(fixed, np.random.default_rng(4), 5001))[name][1]


def over_seeds(generator, seeds, name):
    fixed, truth = truth_over_seeds(name)
    found = TABLES[name](rows_of(times_of(fixed, generator, seeds)))
    row = found[found["optimizer"] == "1"].iloc[0]
    return row["low"] <= truth <= row["high"]


def score_difference(generator, problems):
    data = times_of(effects(generator, problems), generator, 5)
    each = -ranking.ranks(bootstrap.medians(data))
    row = paired.score_differences(["1", "0"], each[[1, 0]]).iloc[0]
    truth = truth_over_problems(5)["rank"]
    return row["low"] <= truth[0] - truth[1] <= row["high"]


def entry(what, setting, nominal, simulate, *given):
    return Entry(what, setting, nominal, functools.partial(call, simulate, given))


def call(simulate, given, generator):
    return bool(simulate(generator, *given))


NAMES = {"score": "AlgoPerf score", "rank": "mean rank", "iqm": "interquartile mean of progress"}
ENTRIES = [
    *(entry("interval of a median", f"{n} seeds", f"{100 * curves.coverage(n):.1f}", median, n) for n in (5, 6, 8, 10, 25)),
    *(
        entry("leads alone", f"2 equal optimizers, {n} seeds, rho {rho}", "at most 5.0", alone, n, 0, rho)
        for n, rho in ((5, 0.0), (5, 0.9), (10, 0.5))
    ),
    entry("leads alone", "3 equal optimizers, 5 seeds, rho 0.5", "at most 5.0", alone, 5, 0, 0.5, 2),
    *(
        entry("leads alone", f"{d} seed sd better than {k}, 5 seeds, rho {rho}", "power", alone, 5, d, rho, k)
        for d, rho, k in ((1, 0.0, 1), (1, 0.5, 1), (1, 0.9, 1), (1, 0.5, 2), (2, 0.5, 2), (3, 0.5, 2))
    ),
    *(entry("ratio of two optimizers", f"{n} seeds, rho 0.5", "95.0", ratio, n, 0.5) for n in (5, 10)),
    *(entry("share of seeds that reach", f"{n} seeds, true 70 %", "at least 95.0", share, n, 0.7) for n in (5, 10)),
    entry("ends below a fixed target", "mean log at the target, 5 seeds", "5.0", below, 5),
    *(
        entry(f"{word} time", f"{n} seeds, log sd {sd}, {100 * c:.0f} % reach", "95.0", running_time, n, sd, c, name)
        for word, name in (("expected", "ert"), ("penalised", "par"))
        for n, sd, c in ((5, 0.3, 1.0), (5, 1.0, 1.0), (5, 0.3, 0.7), (10, 0.3, 0.7), (20, 0.3, 0.7))
    ),
    *(
        entry("median best of 9 trials", f"{n} seeds, {word} response", "at least 95.0", best_of, n, slope)
        for n, slope, word in ((5, 0.0, "flat"), (10, 0.0, "flat"), (5, 0.8, "steep"))
    ),
    *(entry("best learning rate", f"5 seeds, {s} seed sd per half decade", "95.0", best_rate, 5, s) for s in (0.3, 1.0)),
    *(entry("decades that work", f"5 seeds, {s} seed sd per half decade", "none", decades, 5, s) for s in (1.0, 3.0)),
    *(entry(f"{NAMES[name]}, over problems", f"{n} problems", "95.0", over_problems, n, name) for name in TABLES for n in (7, 14)),
    *(entry(f"{NAMES[name]}, over seeds", f"7 problems, {n} seeds", "95.0", over_seeds, n, name) for name in TABLES for n in (5, 10)),
    *(entry("difference of two mean ranks", f"{n} problems", "95.0", score_difference, n) for n in (7, 14)),
]  # fmt: skip


def rate(each: Entry, draws: int, seed: int = 0) -> float:
    generator = np.random.default_rng((seed, ENTRIES.index(each)))
    return float(np.mean([each.simulate(generator) for _ in range(draws)]))


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
