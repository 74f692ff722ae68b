"""Who leads where, in plain words, from rows alone; each form of the page escapes them for itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optbench.stats import Frame
from optbench.stats.curves import INTERVAL_FROM
from optbench.stats.leaders import on_problem
from optbench.stats.settings import kept_apart, labels, question_of
from optbench.wording import count, listed, number, spoken, value, whole


@dataclass(frozen=True)
class Verdict:
    """Who leads on one problem, and how sure that is."""

    name: str
    of: Frame
    """The rows of one problem."""

    @cached_property
    def table(self) -> Frame:
        """The compared number of each optimizer, as `stats.leaders.on_problem` gives it."""
        return on_problem(self.of)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The same, best first."""
        return sorted(self.table.to_dict("records"), key=lambda row: row["middle"])

    @property
    def leaders(self) -> list[str]:
        """One that leads alone, several that tie, or nobody."""
        return [row["optimizer"] for row in self.rows if row["leads"]]

    @property
    def contested(self) -> bool:
        """Whether there is anybody to lead."""
        return len(self.rows) > 1

    @property
    def compared(self) -> str:
        """What the optimizers are compared by."""
        first = self.rows[0]
        metric = spoken(first["metric"])
        return f"steps to {metric} {number(first['target'])}" if first["by"] == "steps" else f"final {metric}"

    @cached_property
    def sentence(self) -> str:
        """Who leads; a tie where intervals overlap."""
        return f"{self.said()}.{self.caution()}"

    def caution(self) -> str:
        """Why this is less than a finding, if it is."""
        seeds = int(self.table["seeds"].min())
        if not question_of(self.of).seeded:
            return " (nothing is random: one run)"
        return "" if seeds >= INTERVAL_FROM else f" ({count(seeds, 'seed')}, so no interval)"

    def said(self) -> str:
        """The sentence without its caution."""
        leading = [row for row in self.rows if row["leads"]]
        if not leading:
            return "no optimizer finished in the median seed"
        first, by_steps = leading[0], leading[0]["by"] == "steps"
        goal = f"{spoken(first['metric'])} {number(first['target'])}" if by_steps else spoken(first["metric"])
        names = listed([row["optimizer"] for row in leading])
        values = listed([measured(row) for row in leading])
        if not self.contested:
            shown = f"reaches {goal} after {values}" if by_steps else f"ends at {goal} {values}"
            return f"only {names} was run; it {shown}"
        if len(leading) > 1:
            return f"{names} tie on {self.compared}, {values}: the ranges overlap"
        if by_steps:
            return f"{names} is first to reach {goal}, after {values}; {self.following()}"
        return f"{names} has the lowest final {goal}, {values}; {self.following()}"

    def following(self) -> str:
        """The best that does not lead."""
        row = next(row for row in self.rows if not row["leads"])
        if math.isfinite(row["middle"]):
            return f"next is {row['optimizer']} with {measured(row)}"
        return (
            "no other does in the median seed"
            if row["by"] == "steps"
            else "no other finished in the median seed"
        )


def measured(row: dict[str, Any]) -> str:
    """A compared number with its spread."""
    numbers = row["middle"], row["low"], row["high"]
    if row["by"] == "value":
        return value(row["metric"], *numbers)
    return whole(*numbers) + " steps" * math.isfinite(row["middle"])


def verdicts(frame: Frame) -> list[Verdict]:
    """Who leads on each problem."""
    names = labels(frame)
    return [Verdict(names[rows.index[0]], rows) for rows in kept_apart(frame)]


def verdict(frame: Frame) -> str:
    """Who leads where, from rows of cells: the first sentence of a report, and the last but one of a run."""
    return headline(verdicts(frame))


def headline(verdicts: Sequence[Verdict]) -> str:
    """Who leads alone where; nothing is said where one optimizer was run alone."""
    by_framework: dict[str, list[Verdict]] = {}
    for each in verdicts:
        by_framework.setdefault(str(each.of["framework"].iloc[0]), []).append(each)
    if len(by_framework) > 1:  # the same task in two frameworks is not two tasks
        return " ".join(f"In {name}: {headline(part)}" for name, part in by_framework.items())
    contests = [verdict for verdict in verdicts if verdict.contested]
    if not contests:
        return "Only one optimizer was run on each task, so nothing is compared."
    alone: dict[str, list[str]] = {}
    for verdict in contests:
        if len(verdict.leaders) == 1:
            alone.setdefault(verdict.leaders[0], []).append(verdict.name)
    listing = dict.fromkeys(name for verdict in contests for name in verdict.table["optimizer"])
    names = sorted(filter(alone.__contains__, listing), key=lambda name: -len(alone[name]))
    parts = [f"{name} leads alone on {len(alone[name])} ({listed(alone[name])})" for name in names]
    for many, word in (
        (sum(len(verdict.leaders) > 1 for verdict in contests), "tied"),
        (sum(not verdict.leaders for verdict in contests), "finished by none"),
    ):
        parts += [f"{many} {'is' if many == 1 else 'are'} {word}"] if many else []
    few = min(int(verdict.table["seeds"].min()) for verdict in contests) < INTERVAL_FROM
    caution = (
        f" Where there are fewer than {INTERVAL_FROM} seeds this is an indication, not a finding."
        if few
        else ""
    )
    return f"Of {count(len(contests), 'problem')}, {listed(parts)}.{caution}"
