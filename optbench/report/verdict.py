"""What a report says in words: who leads where, how wide learning rates work, and what weakens it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optbench.core import Task
from optbench.report.look import order
from optbench.report.markdown import escape, listed
from optbench.report.problem import Problem, spoken
from optbench.stats import Frame
from optbench.stats.curves import INTERVAL_FROM
from optbench.stats.leaders import on_problem
from optbench.stats.summary import RAN, compact, percent, spread
from optbench.suite import Suite


def measured(row: dict[str, Any]) -> str:
    """A compared number with its spread."""
    middle, low, high = row["middle"], row["low"], row["high"]
    if row["by"] == "value":
        return (
            percent(middle, low, high)
            if row["metric"].endswith("error")
            else spread(middle, low, high, digits=2)
        )
    if math.isinf(middle):
        return "never"
    text = f"{middle:,.0f}" + ("" if low == high else f" [{low:,.0f}, {high:,.0f}]".replace("inf", "never"))
    return f"{text} steps"


def verdicts(problems: Sequence[Problem]) -> list[str]:
    """First one sentence on all problems, then one for each."""
    tables = {problem.name: on_problem(problem.rows) for problem in problems}
    lines = [
        f"**{escape(problem.name)}**: {sentence(tables[problem.name], problem.task)}" for problem in problems
    ]
    return [headline(tables), *lines]


def headline(tables: Mapping[str, Frame]) -> str:
    """Who leads alone where; nothing is said where one optimizer was run alone."""
    contests = {name: table for name, table in tables.items() if len(table) > 1}
    if not contests:
        return "Only one optimizer was run on each task, so nothing is compared."
    alone: dict[str, list[str]] = {}
    for name, table in contests.items():
        if table["leads"].sum() == 1:
            alone.setdefault(str(table.loc[table["leads"], "optimizer"].iloc[0]), []).append(escape(name))
    parts = [
        f"{escape(name)} leads alone on {len(alone[name])} ({listed(alone[name])})" for name in order(alone)
    ]
    for count, word in ((sum(t["leads"].sum() > 1 for t in contests.values()), "tied"),
                        (sum(t["leads"].sum() == 0 for t in contests.values()), "finished by none")):  # fmt: skip
        parts += [f"{count} {'is' if count == 1 else 'are'} {word}"] if count else []
    few = min(int(table["seeds"].min()) for table in contests.values()) < INTERVAL_FROM
    caution = " Where there are fewer than 5 seeds this is an indication, not a finding." if few else ""
    return f"Of {len(contests)} problem{'s' * (len(contests) > 1)}, {listed(parts)}.{caution}"


def sentence(table: Frame, task: Task) -> str:
    """Who leads on one problem; a tie where intervals overlap."""
    rows = sorted(table.to_dict("records"), key=lambda row: row["middle"])
    leading = [row for row in rows if row["leads"]]
    rest = [row for row in rows if not row["leads"]]
    seeds = int(table["seeds"].min())
    caution = "" if seeds >= INTERVAL_FROM else f" ({seeds} seed{'s' * (seeds > 1)}, so no interval)"
    if not task.seeded:
        caution = " (nothing is random: one run)"
    if not leading:
        return "no optimizer finished in the median seed." + caution
    first = leading[0]
    goal = f"{spoken(first['metric'])} {compact(first['target'])}"
    names = listed([escape(row["optimizer"]) for row in leading])
    values = listed([measured(row) for row in leading])
    if len(rows) == 1:
        shown = (
            f"reaches {goal} after {values}"
            if first["by"] == "steps"
            else f"ends at {spoken(first['metric'])} {values}"
        )
        return f"only {names} was run; it {shown}.{caution}"
    if len(leading) > 1:
        what = f"steps to {goal}" if first["by"] == "steps" else f"final {spoken(first['metric'])}"
        return f"{names} tie on {what}, {values}: the ranges overlap.{caution}"
    following = f"next is {escape(rest[0]['optimizer'])} with {measured(rest[0])}"
    if first["by"] == "steps":
        if math.isinf(rest[0]["middle"]):
            following = "no other does in the median seed"
        return f"{names} is first to reach {goal}, after {values}; {following}.{caution}"
    if math.isinf(rest[0]["middle"]):
        following = "no other finished in the median seed"
    return f"{names} has the lowest final {spoken(first['metric'])}, {values}; {following}.{caution}"


def tuning(table: Frame) -> list[str]:
    """For each optimizer, how many decades of learning rate reach the first target, over the problems."""
    found = []
    for name in order(table["optimizer"]):
        rows = table[(table["optimizer"] == name) & (table["trials"] > 1)]
        works = rows[rows["decades"].notna()].sort_values("decades", kind="stable")
        ends = [width(row) for row in works.to_dict("records")]
        never = [escape(task) for task in rows.loc[rows["decades"].isna(), "problem"]]
        parts = []
        if ends:
            problems = [escape(works["problem"].iloc[i]) for i in (0, -1)]
            narrow, wide = f"{ends[0]} ({problems[0]})", f"{ends[-1]} ({problems[1]})"
            parts.append(f"from {narrow} to {wide}" if len(ends) > 1 else narrow)
        parts += [f"no learning rate works on {listed(never)}"] if never else []
        found += [f"{escape(name)}: {'; '.join(parts)}"] if parts else []
    return found


def width(row: dict[str, Any]) -> str:
    """`≥ 2.5 decades`."""
    if row["decades"] == 0:
        return "a single one" + ", at the edge" * bool(row["decades_open"])
    return f"{'≥ ' * bool(row['decades_open'])}{row['decades']:.1f} decades"


def weaknesses(problems: Sequence[Problem], table: Frame, stored: Frame, suite: Suite) -> list[str]:
    """What a careful reader would hold against the verdict, said first."""
    return [
        *(text for problem in problems for text in unlike_the_suite(problem, suite)),
        *thin(problems, table),
        *uneven(table, stored),
        *toys(problems),
        "Learning rates were chosen and results reported on the same seeds, which flatters every method alike.",
    ]


def unlike_the_suite(problem: Problem, suite: Suite) -> list[str]:
    """Where a problem's rows are not what its suite asks for, or not the same for every optimizer."""
    name, found = escape(problem.name), []
    steps, own = int(problem.rows["steps"].iloc[0]), suite.steps or problem.task.horizon
    if steps != own:
        found.append(f"{name} ran {steps:,} steps; the suite asks for {own:,}.")
    budgets = {label: budget(rows) for label, rows in problem.optimizers.items()}
    if len(set(budgets.values())) > 1:
        said = listed([f"{escape(label)} {text}" for label, text in budgets.items()])
        found.append(f"Unequal budgets on {name}: {said}.")
    return found


def thin(problems: Sequence[Problem], table: Frame) -> list[str]:
    """Too few seeds, and grids that end where it gets interesting."""
    found = []
    seeded = {problem.name for problem in problems if problem.task.seeded}
    few = dict.fromkeys(table.loc[table["seeds"] < INTERVAL_FROM, "problem"])
    if names := [escape(name) for name in few if name in seeded]:
        said = listed(names)
        found.append(f"Fewer than {INTERVAL_FROM} seeds on {said}: ranges there are min-max, not intervals.")
    edge = table[table["trial_at_edge"].astype(bool) & np.isfinite(table["score"])]
    if len(edge):
        said = listed(
            [f"{escape(row['optimizer'])} on {escape(row['problem'])}" for row in edge.to_dict("records")]
        )
        found.append(
            f"The best learning rate is at the edge of the grid, so a better one may lie outside: {said}."
        )
    return found


def uneven(table: Frame, stored: Frame) -> list[str]:
    """Steps that cost more than a gradient, and rows that come from different code, machines or lane modes."""
    found = []
    dear = table[table["gradients_per_step"] > 1.005]
    if len(dear):
        costs = dear.groupby("optimizer", sort=False)["gradients_per_step"].max()
        said = listed([f"{escape(name)} {cost:.2f}" for name, cost in costs.items()])
        found.append(f"Steps are not equally dear; gradient equivalents a step: {said}.")
    if stored["commit"].nunique(dropna=False) > 1 or stored["cpu_model"].nunique(dropna=False) > 1:
        found.append(
            "The rows come from more than one commit or machine (see Environment); seconds compare least."
        )
    again = stored[stored.duplicated(["cell", "device_kind"], keep=False)]
    if len(again):
        count = again["cell"].nunique()
        found.append(f"{count:,} cells are stored in more than one lane mode; the newest of each is shown.")
    return found


def toys(problems: Sequence[Problem]) -> list[str]:
    """Which problems are toys."""
    names = [escape(problem.name) for problem in problems if problem.task.toy]
    what = "Toys, which show how a method behaves and not how it will rank on a network"
    return [f"{what}: {listed(names)}."] if names else []


def budget(rows: Frame) -> str:
    """`9 learning rates x 5 seeds`."""
    seeds = rows.groupby("trial", dropna=False)["seed"].nunique()
    span = f"{seeds.min()}" if seeds.nunique() == 1 else f"{seeds.min()}-{seeds.max()}"
    rates = f"{len(seeds)} learning rate{'s' * (len(seeds) > 1)} x " if rows["trial"].notna().any() else ""
    return f"{rates}{span} seed{'s' * (span != '1')}"


def failures(problems: Sequence[Problem]) -> list[str]:
    """For each problem and optimizer, what diverged or failed, at which learning rates, and why."""
    found = []
    for problem in problems:
        for name, rows in problem.optimizers.items():
            for status, lost in rows[~rows["status"].isin(["done", "reached"])].groupby("status"):
                rates = sorted(lost["trial"].dropna().unique())
                where = f", at learning rates {', '.join(f'{rate:.3g}' for rate in rates)}" if rates else ""
                why = "" if status in RAN else f": {escape(lost['reason'].mode().iloc[0])}"
                found.append(
                    f"{escape(problem.name)}, {escape(name)}: {len(lost)} of {len(rows)} lanes {status}{where}{why}"
                )
    return found
