"""What limits the verdict, how carefully to tune, and what failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from optbench.cell import Status
from optbench.report.look import order
from optbench.report.problem import Problem, by_optimizer, has, lost
from optbench.resultfile import KEY
from optbench.stats import Frame
from optbench.stats.curves import INTERVAL_FROM
from optbench.stats.outcomes import trying
from optbench.stats.provenance import faults, mixed
from optbench.suite import Suite
from optbench.wording import count, listed, number

DISTURBED = 1.2
"""The ratio of wall to processor seconds of a program above which the machine counts as busy."""
TIMED = 0.05
"""Processor seconds below which that ratio means nothing."""
SLOWER = 1.5
"""Seconds per step, relative to the cheapest optimizer, above which a ranking by steps can mislead."""
SAME_SEEDS = (
    "Learning rates were chosen and results reported on the same seeds. Of equal methods, one with a flat response to "
    "the learning rate then looks better, by up to 0.8 seed standard deviations."
)


UNTUNED = (
    "One learning rate was run per optimizer and nothing was tuned: step costs are comparable; final losses "
    "hardly are."
)
TOYS = "These tasks are toys, which show how a method behaves, not how it will rank on a network"


def caveats(problems: Sequence[Problem], table: Frame, stored: Frame, suite: Suite) -> Iterator[str]:
    yield from unlike_the_suite(problems, suite)
    yield from thin(problems, table)
    yield from unlike_each_other(table, stored)
    yield from disturbed(problems)
    yield from faults(stored)
    if names := [problem.name for problem in problems if problem.question.toy]:
        yield f"{TOYS}: {listed(names)}."
    yield from decays(stored)
    if (table["trials"] > 1).any():
        yield from () if "stage" in stored else [SAME_SEEDS]
    elif table["trial"].notna().any():
        yield UNTUNED


def decays(stored: Frame) -> list[str]:
    """Weight decays that differ between optimizers, which may decide a ranking by generalisation."""
    name = "optimizer.weight_decay"
    if name not in stored:
        return []
    numbers = pd.to_numeric(stored[name], errors="coerce")  # a user's own field of that name may be anything
    values = numbers.fillna(0.0).groupby(stored["optimizer"]).first()
    if values.nunique() < 2:
        return []
    decayed = listed([f"{label} {values[label]:g}" for label in order(values.index) if values[label]])
    return [f"Weight decay differs: {decayed}, the others 0. Set it in brackets: name[weight_decay=0]."]


def unlike_the_suite(problems: Sequence[Problem], suite: Suite) -> Iterator[str]:
    """Steps other than the suite's, and unequal budgets."""
    other: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    unequal: dict[str, list[str]] = {}
    for problem in problems:
        task, steps = problem.rows[["task", "steps"]].iloc[0]
        own = suite.horizons(task, problem.question.horizon)
        if steps not in own:
            other.setdefault((steps, own), []).append(problem.name)
        # An optimizer without a learning rate has as many trials: they would all be its only one.
        rows = trying(problem.rows[problem.rows["trial"].notna()])
        tried = rows.groupby(["optimizer", "trial"])["seed"].nunique()
        budgets = {label: budget(tried[label]) for label in problem.optimizers if label in tried}
        if len(set(budgets.values())) > 1:
            text = listed([f"{label} {text}" for label, text in budgets.items()])
            unequal.setdefault(text, []).append(problem.name)
    for (n, own), names in other.items():
        yield f"{listed(names)} ran {n:,} steps; the suite asks for {listed([f'{each:,}' for each in own])}."
    for text, names in unequal.items():
        yield f"Unequal budgets on {listed(names)}: {text}."


def thin(problems: Sequence[Problem], table: Frame) -> Iterator[str]:
    """Too few seeds, and best learning rates at the edge of the grid."""
    seeded = {problem.name for problem in problems if problem.question.seeded}
    few = dict.fromkeys(table.loc[table["seeds"] < INTERVAL_FROM, "problem"])
    if names := [name for name in few if name in seeded]:
        yield f"Fewer than {INTERVAL_FROM} seeds on {listed(names)}: ranges there are min-max, not intervals."
    edge = table[table["trial_at_edge"].astype(bool) & np.isfinite(table["score"])]
    if len(edge):
        pairs = edge.groupby("optimizer", sort=False)["problem"].agg(list)
        text = "; ".join(f"{name} on {listed(where)}" for name, where in pairs.items())
        yield f"The best learning rate is at the edge of the grid, so a better one may lie outside: {text}."


def unlike_each_other(table: Frame, stored: Frame) -> Iterator[str]:
    """Steps that cost more than a gradient, and rows from different code, machines or lane modes."""
    least = table.groupby("problem", sort=False)["microseconds"].transform("min")
    costs = table.assign(seconds=table["microseconds"] / least)
    for column, limit, unit in (
        ("gradients_per_step", 1.005, "gradient equivalents per step"),
        ("seconds", SLOWER, "seconds per step over those of the cheapest optimizer, at most"),
    ):
        most = costs[costs[column] > limit].groupby("optimizer", sort=False)[column].max()
        if len(most):
            text = listed([f"{name} {cost:.2f}" for name, cost in most.items()])
            yield f"Steps differ in cost; {unit}: {text}."
    if (stored[["commit", "cpu_model"]].nunique(dropna=False) > 1).any():
        yield "The rows come from more than one commit or machine (see Environment); times are the least comparable."
    yield from mixed(stored)
    if has(stored, "loss_bits"):
        yield f"The losses of each step are stored to {stored['loss_bits'].min():g} significant bits."
    modes = stored.drop_duplicates(list(KEY))
    again = modes[modes.duplicated(["cell", "device_kind"], keep=False)]
    if len(again):
        cells = count(again["cell"].nunique(), "cell")
        yield f"{cells} are stored in more than one lane mode or width; the newest of each is shown."
    narrow = (stored["width"] < stored["planned_width"]) if "width" in stored else []
    if sum(narrow):
        cells = count(stored.loc[narrow, "cell"].nunique(), "cell")
        yield f"{cells} ran fewer lanes at a time than planned, as memory ran out: the bits differ."


def disturbed(problems: Sequence[Problem]) -> Iterator[str]:
    """Whose step times were measured while the machine was busy."""
    factors: dict[str, float] = {}
    for problem in problems:
        rows = problem.rows
        if not {"program_seconds", "program_cpu_seconds"} <= set(rows):
            continue
        long = rows[(rows["device_kind"] == "cpu") & (rows["program_cpu_seconds"] >= TIMED)]
        slowed = (long["program_seconds"] / long["program_cpu_seconds"]).groupby(long["optimizer"]).median()
        factors |= {f"{name} on {problem.name}": times for name, times in slowed.items() if times > DISTURBED}
    if factors:
        text = listed([f"{times:.1f} ({what})" for what, times in factors.items()])
        yield f"The machine was busy: step times are overestimated by factors of {text}."


def budget(seeds: Frame) -> str:
    """`9 learning rates x 5 seeds`, from a series of the number of seeds of each."""
    least = "" if seeds.nunique() == 1 else f"{seeds.min()}-"
    return f"{count(len(seeds), 'learning rate')} x {least}{count(seeds.max(), 'seed')}"


def tuning(table: Frame) -> Iterator[str]:
    """For each optimizer, how many decades of learning rate reach the first target, over the problems."""
    for name in order(table["optimizer"]):
        rows = table[(table["optimizer"] == name) & (table["trials"] > 1)]
        works = rows[rows["decades"].notna()].sort_values("decades", kind="stable").to_dict("records")
        ends = [f"{width(row)} ({row['problem']})" for row in works[:1] + works[1:][-1:]]
        never = rows.loc[rows["decades"].isna(), "problem"].tolist()
        parts = [f"from {ends[0]} to {ends[1]}" if len(ends) > 1 else ends[0]] if ends else []
        parts += [f"no learning rate works on {listed(never)}"] if never else []
        if parts:
            yield f"{name}: {'; '.join(parts)}"


def width(row: dict[str, Any]) -> str:
    """`≥ 2.5 decades`."""
    if row["decades"] == 0:
        return "a single learning rate" + ", at the edge of the grid" * bool(row["decades_open"])
    low, high = (0.0 if row[end] != row[end] else row[end] for end in ("decades_low", "decades_high"))
    ends = f" [{low:.1f}, {high:.1f}]" * (low < high)
    return f"{'≥ ' * bool(row['decades_open'])}{row['decades']:.1f} decades{ends}"


def failures(problems: Sequence[Problem]) -> Iterator[str]:
    """For each problem and optimizer, what diverged or failed, at which learning rates, and why."""
    for problem in problems:
        gone = by_optimizer(lost(problem.rows), problem.optimizers)
        for name, rows in problem.optimizers.items():
            for text, group in gone[name].groupby("status"):
                rates = sorted(group["trial"].dropna().unique())
                values = ", ".join(map(number, rates))
                where = f", at learning rate{'s' * (len(rates) > 1)} {values}" if rates else ""
                reason = "" if Status(text).final else str(group["reason"].mode().iloc[0])
                why = f": {reason}" if reason else ""
                yield f"{problem.name}, {name}: {len(group)} of {len(rows)} lanes {text}{where}{why}"
