"""Sentences that say who leads where, as plain text; each form of the page escapes them for itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optbench.stats import Frame
from optbench.stats.curves import INTERVAL_FROM
from optbench.stats.leaders import leaders
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
        """From `stats.leaders.leaders`."""
        return leaders(self.of)

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
        return len(self.rows) > 1

    @property
    def compared(self) -> str:
        """`final test error`."""
        first = self.rows[0]
        metric = spoken(first["metric"])
        return f"steps to {metric} {number(first['target'])}" if first["by"] == "steps" else f"final {metric}"

    @cached_property
    def sentence(self) -> str:
        """Who leads; a tie where intervals overlap."""
        seeds = int(self.table["seeds"].min())
        caution = "" if seeds >= INTERVAL_FROM else f" ({count(seeds, 'seed')}, so no interval)"
        if not question_of(self.of).seeded:
            caution = " (nothing is random: one run)"
        return f"{self.finding()}.{caution}"

    def finding(self) -> str:
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
        following = next(row for row in self.rows if not row["leads"])
        then = f"next is {following['optimizer']} with {measured(following)}"
        if not math.isfinite(following["middle"]):
            then = f"no other optimizer {'reaches it' if by_steps else 'finished'} (median seed)"
        if by_steps:
            return f"{names} is first to reach {goal}, after {values}; {then}"
        return f"{names} has the lowest final {goal}, {values}; {then}"


def measured(row: dict[str, Any]) -> str:
    numbers = row["middle"], row["low"], row["high"]
    if row["by"] == "value":
        return value(row["metric"], *numbers)
    return whole(*numbers) + " steps" * math.isfinite(row["middle"])


def verdicts(frame: Frame) -> list[Verdict]:
    """One for each problem."""
    names = labels(frame)
    return [Verdict(names[rows.index[0]], rows) for rows in kept_apart(frame)]


def verdict(frame: Frame) -> str:
    """The first sentence of a report, and the last but one of a run."""
    return headline(verdicts(frame))


def headline(verdicts: Sequence[Verdict]) -> str:
    """Who leads alone where; problems with one optimizer are left out."""
    contests = [verdict for verdict in verdicts if verdict.contested]
    if not contests:
        return "Only one optimizer was run on each task, so nothing is compared."
    alone: dict[str, list[str]] = {name: [] for verdict in contests for name in verdict.table["optimizer"]}
    for verdict in contests:
        if len(verdict.leaders) == 1:
            alone[verdict.leaders[0]].append(verdict.name)
    names = sorted(filter(alone.get, alone), key=lambda name: -len(alone[name]))
    parts = [f"{name} leads alone on {len(alone[name])} ({listed(alone[name])})" for name in names]
    for many, word in (
        (sum(len(verdict.leaders) > 1 for verdict in contests), "tied"),
        (sum(not verdict.leaders for verdict in contests), "finished by none"),
    ):
        parts += [f"{many} {'is' if many == 1 else 'are'} {word}"] if many else []
    few = min(int(verdict.table["seeds"].min()) for verdict in contests) < INTERVAL_FROM
    caution = f" Where there are fewer than {INTERVAL_FROM} seeds this is an indication, not a finding." * few
    return f"Of {count(len(contests), 'problem')}, {listed(parts)}.{caution}"
