"""What a careful reader asks next: how carefully to tune, what weakens the verdict, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from optbench.cell import FINISHED, Status
from optbench.report.look import order
from optbench.report.problem import Problem
from optbench.stats import Frame
from optbench.stats.costs import RAN
from optbench.stats.curves import INTERVAL_FROM
from optbench.stats.summary import trying
from optbench.suite import Suite
from optbench.wording import count, listed, number

DISTURBED = 1.2
"""Wall over processor seconds of a program above which a reader is told."""
TIMED = 0.05
"""Processor seconds below which that ratio says nothing."""


def tuning(table: Frame) -> list[str]:
    """For each optimizer, how many decades of learning rate reach the first target, over the problems."""
    found = []
    for name in order(table["optimizer"]):
        rows = table[(table["optimizer"] == name) & (table["trials"] > 1)]
        works = rows[rows["decades"].notna()].sort_values("decades", kind="stable")
        ends = [width(row) for row in works.to_dict("records")]
        never = rows.loc[rows["decades"].isna(), "problem"].tolist()
        parts = []
        if ends:
            problems = [works["problem"].iloc[i] for i in (0, -1)]
            narrow, wide = f"{ends[0]} ({problems[0]})", f"{ends[-1]} ({problems[1]})"
            parts.append(f"from {narrow} to {wide}" if len(ends) > 1 else narrow)
        parts += [f"no learning rate works on {listed(never)}"] if never else []
        found += [f"{name}: {'; '.join(parts)}"] if parts else []
    return found


def width(row: dict[str, Any]) -> str:
    """`≥ 2.5 decades`."""
    if row["decades"] == 0:
        return "a single one" + ", at the edge" * bool(row["decades_open"])
    return f"{'≥ ' * bool(row['decades_open'])}{row['decades']:.1f} decades"


def weaknesses(problems: Sequence[Problem], table: Frame, stored: Frame, suite: Suite) -> list[str]:
    """What a careful reader would hold against the verdict, said first."""
    return [
        *unlike_the_suite(problems, suite), *thin(problems, table), *uneven(table, stored),
        *disturbed(problems), *toys(problems), *decays(stored),
        *(same_seeds(stored) if (table["trials"] > 1).any() else untuned(table)),
    ]  # fmt: skip


def untuned(table: Frame) -> list[str]:
    """Where one learning rate is all that was run of optimizers that have one."""
    if table["trial"].isna().all():
        return []
    return [
        "One learning rate was run for each optimizer, and nothing was tuned: what a step costs can be compared, who "
        "gets lower hardly."
    ]


def same_seeds(stored: Frame) -> list[str]:
    """Whether what chose is what is reported."""
    said = "Learning rates were chosen and results reported on the same seeds, which flatters every method alike."
    return [] if "stage" in stored else [said]


def decays(stored: Frame) -> list[str]:
    """Weight decays that differ between optimizers, on which a ranking by generalisation may hang."""
    name = "optimizer.weight_decay"
    if name not in stored:
        return []
    values = stored[name].astype(float).fillna(0.0).groupby(stored["optimizer"]).first()
    if values.nunique() < 2:
        return []
    said = listed(
        [f"{optimizer} {values[optimizer]:g}" for optimizer in order(values.index) if values[optimizer]]
    )
    return [
        f"Weight decay is not equal: {said}, the others 0; set it with brackets, as in name[weight_decay=0]."
    ]


def unlike_the_suite(problems: Sequence[Problem], suite: Suite) -> list[str]:
    """Where rows are not what their suite asks for, or not the same for every optimizer."""
    other: dict[tuple[int, int], list[str]] = {}
    uneven_: dict[str, list[str]] = {}
    for problem in problems:
        steps, own = int(problem.rows["steps"].iloc[0]), suite.steps or problem.question.horizon
        if steps != own:
            other.setdefault((steps, own), []).append(problem.name)
        # What has nothing to sweep was given as many trials: they would all be its only one.
        searching = {label: rows for label, rows in problem.optimizers.items() if rows["trial"].notna().any()}
        budgets = {label: budget(trying(rows)) for label, rows in searching.items()}
        if len(set(budgets.values())) > 1:
            said = listed([f"{label} {text}" for label, text in budgets.items()])
            uneven_.setdefault(said, []).append(problem.name)
    return [
        *(
            f"{listed(names)} ran {ran:,} steps; the suite asks for {own:,}."
            for (ran, own), names in other.items()
        ),
        *(f"Unequal budgets on {listed(names)}: {said}." for said, names in uneven_.items()),
    ]


def thin(problems: Sequence[Problem], table: Frame) -> list[str]:
    """Too few seeds, and grids that end where it gets interesting."""
    found = []
    seeded = {problem.name for problem in problems if problem.question.seeded}
    few = dict.fromkeys(table.loc[table["seeds"] < INTERVAL_FROM, "problem"])
    if names := [name for name in few if name in seeded]:
        said = listed(names)
        found.append(f"Fewer than {INTERVAL_FROM} seeds on {said}: ranges there are min-max, not intervals.")
    edge = table[table["trial_at_edge"].astype(bool) & np.isfinite(table["score"])]
    if len(edge):
        pairs = edge.groupby("optimizer", sort=False)["problem"].agg(list)
        said = "; ".join(f"{name} on {listed(where)}" for name, where in pairs.items())
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
        said = listed([f"{name} {cost:.2f}" for name, cost in costs.items()])
        found.append(f"Steps are not equally dear; gradient equivalents a step: {said}.")
    if stored["commit"].nunique(dropna=False) > 1 or stored["cpu_model"].nunique(dropna=False) > 1:
        found.append(
            "The rows come from more than one commit or machine (see Environment); seconds compare least."
        )
    modes = stored.drop_duplicates(["cell", "device_kind", "mode"])
    again = modes[modes.duplicated(["cell", "device_kind"], keep=False)]
    if len(again):
        cells = count(again["cell"].nunique(), "cell")
        found.append(f"{cells} are stored in more than one lane mode; the newest of each is shown.")
    return found


def disturbed(problems: Sequence[Problem]) -> list[str]:
    """Whose microseconds were taken while others had the processor."""
    found: dict[str, float] = {}
    for problem in problems:
        rows = problem.rows
        if not {"program_seconds", "program_cpu_seconds"} <= set(rows):
            continue
        long = rows[(rows["device_kind"] == "cpu") & (rows["program_cpu_seconds"] >= TIMED)]
        slowed = (long["program_seconds"] / long["program_cpu_seconds"]).groupby(long["optimizer"]).median()
        found |= {f"{name} on {problem.name}": times for name, times in slowed.items() if times > DISTURBED}
    if not found:
        return []
    said = listed([f"{what} {times:.1f}" for what, times in found.items()])
    return [f"Others had the processor meanwhile; microseconds a step are too high by these factors: {said}."]


def toys(problems: Sequence[Problem]) -> list[str]:
    """Which problems are toys."""
    names = [problem.name for problem in problems if problem.question.toy]
    what = "Toys, which show how a method behaves and not how it will rank on a network"
    return [f"{what}: {listed(names)}."] if names else []


def budget(rows: Frame) -> str:
    """`9 learning rates x 5 seeds`."""
    seeds = rows.groupby("trial", dropna=False)["seed"].nunique()
    least = "" if seeds.nunique() == 1 else f"{seeds.min()}-"
    rates = f"{count(len(seeds), 'learning rate')} x " if rows["trial"].notna().any() else ""
    return f"{rates}{least}{count(seeds.max(), 'seed')}"


class Failure(NamedTuple):
    """Lanes of one optimizer on one problem that diverged or failed in the same way."""

    problem: str
    optimizer: str
    status: Status
    lanes: int
    of: int
    rates: list[float]
    reason: str

    def sentence(self) -> str:
        """In words."""
        rates = ", ".join(map(number, self.rates))
        where = f", at learning rate{'s' * (len(self.rates) > 1)} {rates}" if rates else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.problem}, {self.optimizer}: {self.lanes} of {self.of} lanes {self.status}{where}{why}"


def failures(problems: Sequence[Problem]) -> list[Failure]:
    """For each problem and optimizer, what diverged or failed, at which learning rates, and why."""
    found = []
    for problem in problems:
        for name, rows in problem.optimizers.items():
            for text, lost in rows[~rows["status"].isin(FINISHED)].groupby("status"):
                status, rates = Status(text), sorted(lost["trial"].dropna().unique())
                why = "" if status in RAN else str(lost["reason"].mode().iloc[0])
                found.append(Failure(problem.name, name, status, len(lost), len(rows), rates, why))
    return found
