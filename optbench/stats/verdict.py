"""Sentences that say who leads where, as plain text; each form of the page escapes them for itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optbench.record import Question
from optbench.stats import Frame
from optbench.stats.curves import INTERVAL_FROM
from optbench.stats.leaders import leaders
from optbench.stats.outcomes import at_best, outcomes
from optbench.stats.paired import share_interval
from optbench.stats.settings import kept_apart, labels, question_of
from optbench.wording import count, listed, number, p_value, some, spoken, value, whole


@dataclass(frozen=True)
class Verdict:
    """Who leads on one problem, and how sure that is."""

    name: str
    of: Frame
    """The rows of one problem."""
    best: Frame
    """Their outcomes at the reported trials."""

    @cached_property
    def table(self) -> Frame:
        """From `stats.leaders.leaders`."""
        return leaders(self.best, self.question)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The same, best first."""
        return sorted(self.table.to_dict("records"), key=lambda row: row["middle"])

    @property
    def leaders(self) -> list[str]:
        """The best median, and all that it is not significantly better than; nobody if no median finished."""
        return [row["optimizer"] for row in self.rows if row["leads"]]

    @property
    def contested(self) -> bool:
        return len(self.rows) > 1

    @cached_property
    def question(self) -> Question:
        return question_of(self.of)

    @property
    def compared(self) -> str:
        """`final test error`."""
        first = self.rows[0]
        metric = spoken(first["metric"])
        return (
            f"steps to the final target, {metric} {number(first['target'])}"
            if first["by"] == "steps"
            else f"final {metric}"
        )

    @cached_property
    def sentence(self) -> str:
        """Who leads, and what is not distinguishable."""
        seeds = int(self.table["seeds"].min())
        caution = "" if seeds >= INTERVAL_FROM else f" ({count(seeds, 'seed')}, so no interval)"
        if not self.question.seeded:
            caution = " (nothing is random: one run)"
        return f"{self.finding()}.{caution}"

    def finding(self) -> str:
        """The sentence without its caution."""
        first, leading = self.rows[0], self.leaders
        if not leading:
            return "no optimizer finished in the median seed"
        by_steps, name, shown = first["by"] == "steps", first["optimizer"], measured(first)
        target = f"the final target, {spoken(first['metric'])} {number(first['target'])},"
        goal = target if by_steps else spoken(first["metric"])
        if not self.contested:
            return f"only {name} was run; it {f'reaches {goal} after' if by_steps else f'ends at {goal}'} {shown}"
        reaches = f"is first to reach {goal} after" if by_steps else f"has the lowest final {goal},"
        best = f"{name} {reaches} {shown}"
        if len(leading) > 1:
            rest = [row for row in self.rows[1:] if row["leads"]]
            others = some([f"{row['optimizer']} ({measured(row)})" for row in rest])
            if not self.question.seeded:
                return f"{best}; equal: {others}"
            verb = "is" if len(leading) == 2 else "are"
            return f"{best}; {others} {verb} not distinguishable from it with these seeds"
        following = self.rows[1]
        if not math.isfinite(following["middle"]):
            then = f"no other optimizer {'reaches it' if by_steps else 'finished'} (median seed)"
        else:
            then = f"next is {following['optimizer']} with {measured(following)}"
        worst = max(row["p"] for row in self.rows[1:])
        sure = "p < 0.001" if worst < 1e-3 else p_value(worst)
        tested = f"better than each other optimizer (paired t test, {sure})"
        return f"{best}; {tested if self.question.seeded else 'better than each other optimizer'}; {then}"


def measured(row: dict[str, Any], brief: bool = False) -> str:
    """`1,900 steps [1,874, never], reached in 3 of 5 seeds (95% interval 15% to 95%)`, or a value with its interval."""
    numbers = row["middle"], row["low"], row["high"]
    if row["by"] == "value":
        return value(row["metric"], *numbers)
    shown = whole(*numbers) + f" {row['unit']}" * math.isfinite(row["middle"])
    if row["reached"] == row["seeds"]:
        return shown
    if brief:
        return f"{shown} ({row['reached']} of {row['seeds']} seeds)"
    low, high = share_interval(row["reached"], row["seeds"])
    share = f"{row['reached']} of {row['seeds']} seeds (95% interval {low:.0%} to {high:.0%})"
    return f"{shown}, reached in {share}"


def verdicts(frame: Frame, best: Frame) -> list[Verdict]:
    """One for each problem, from rows and their outcomes at the reported trials."""
    names = labels(frame)
    return [
        Verdict(names[rows.index[0]], rows, best[best.index.isin(rows.index)]) for rows in kept_apart(frame)
    ]


def verdict(frame: Frame, found: Frame | None = None) -> str:
    """The first sentence of a report, and the last but one of a run; `found`: the outcomes, if known."""
    return headline(verdicts(frame, at_best(outcomes(frame) if found is None else found)))


def headline(verdicts: Sequence[Verdict], setting: str = "") -> str:
    """Who leads alone where, on real tasks first; problems with one optimizer are left out.

    `setting` is what all have in common; names of problems need not repeat it.
    """
    for word, column in (("In", "framework"), ("Under", "schedule")):
        apart: dict[str, list[Verdict]] = {}
        for each in verdicts:
            apart.setdefault(str(each.of[column].iloc[0]), []).append(each)
        if len(apart) > 1:  # the same task in two frameworks, or at two schedules, is not two tasks
            return " ".join(f"{word} {name}: {headline(part, f' ({name})')}" for name, part in apart.items())
    contests = [verdict for verdict in verdicts if verdict.contested]
    if not contests:
        return "Only one optimizer was run on each task, so nothing is compared."
    kinds = {kind: [each for each in contests if each.question.toy == toy] for kind, toy in KINDS.items()}
    parts = [
        f"On {count(len(part), kind)}: {leading(part, setting)}." for kind, part in kinds.items() if part
    ]
    few = min(int(verdict.table["seeds"].min()) for verdict in contests)
    if few < INTERVAL_FROM:
        parts.append(
            f"Where there are fewer than {INTERVAL_FROM} seeds this is an indication, not a finding."
        )
    return " ".join(parts)


KINDS = {"real task": False, "toy": True}
"""Tasks on data and functions that only show how a method behaves; never counted together."""


def leading(contests: Sequence[Verdict], setting: str) -> str:
    """Who leads alone, and on how many nobody does."""
    alone: dict[str, list[Verdict]] = {}
    for verdict in contests:
        if len(verdict.leaders) == 1:
            alone.setdefault(verdict.leaders[0], []).append(verdict)
    listing = list(dict.fromkeys(name for verdict in contests for name in verdict.table["optimizer"]))
    parts = []
    for name in sorted(alone, key=lambda name: (-len(alone[name]), listing.index(name))):
        where = listed([each.name.removesuffix(setting) for each in alone[name]])
        parts.append(f"{name} leads alone on {len(alone[name])} ({where})")
    level = sum(len(verdict.leaders) > 1 for verdict in contests)
    if level:
        on = "" if len(contests) == 1 else f"on {'each' if level == len(contests) else level} "
        parts.append(f"{on}the best are not distinguishable with these seeds")
    none = sum(not verdict.leaders for verdict in contests)
    parts += [f"on {none} no optimizer finished"] if none else []
    return listed(parts)
