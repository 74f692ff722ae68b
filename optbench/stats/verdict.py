"""Who leads where, and sentences that say it, as plain text; each form of the page escapes them for itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from optbench.record import SECONDS, Question
from optbench.stats import Frame
from optbench.stats.curves import INTERVAL_FROM
from optbench.stats.outcomes import at_best, outcomes
from optbench.stats.paired import share_interval, spreads
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
    def rows(self) -> list[dict[str, Any]]:
        """For each optimizer, best first, the compared number and whether it leads.

        Where an optimizer reaches a final target, at which lanes stop, the losses no longer compare and the steps to
        that target do (`by` is 'steps'); elsewhere it is the final value of the reported metric (`by` is 'value'). The
        test takes the outcome `compared`, so that a run that stopped short of the target still counts with its loss.
        Keys: the columns of `spreads`, optimizer, by, unit, metric, target, reached (seeds that reached the target).
        """
        best, question, target = self.best, self.question, self.question.last
        reached = (best["finish"] < math.inf).groupby(best["optimizer"], sort=False).sum()
        by_steps = bool((best.groupby("optimizer")["finish"].median() < math.inf).any())
        table = spreads(best, "finish" if by_steps else "score", "compared").assign(
            reached=reached, by="steps" if by_steps else "value",
            unit=SECONDS if question.unit == SECONDS else "steps",
            metric=target.metric if by_steps else question.score, target=target.value if by_steps else math.nan,
        )  # fmt: skip
        return sorted(table.reset_index().to_dict("records"), key=lambda row: row["middle"])

    @property
    def seeds(self) -> int:
        """The least number of seeds of an optimizer."""
        return min(row["seeds"] for row in self.rows)

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
        first, metric = self.rows[0], spoken(self.rows[0]["metric"])
        by_steps = f"steps to the final target, {metric} {number(first['target'])}"
        return by_steps if first["by"] == "steps" else f"final {metric}"

    @cached_property
    def sentence(self) -> str:
        """Who leads, and what is not distinguishable."""
        caution = "" if self.seeds >= INTERVAL_FROM else f" ({count(self.seeds, 'seed')}, so no interval)"
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
            each = {name: headline(part, f" ({name})") for name, part in apart.items()}
            return " ".join(f"{word} {name}, {text[0].lower()}{text[1:]}" for name, text in each.items())
    contests = [verdict for verdict in verdicts if verdict.contested]
    if not contests:
        return "Only one optimizer was run on each task, so nothing is compared."
    parts = []
    for kind, toy in KINDS.items():
        if part := [each for each in contests if each.question.toy == toy]:
            parts.append(f"On {count(len(part), kind)}: {leading(part, setting)}.")
    if min(verdict.seeds for verdict in contests) < INTERVAL_FROM:
        few = f"fewer than {INTERVAL_FROM} seeds"
        parts.append(f"Where there are {few} this is an indication, not a finding.")
    return " ".join(parts)


KINDS = {"real task": False, "toy": True}
"""Tasks on data and functions that only show how a method behaves; never counted together."""


def leading(contests: Sequence[Verdict], setting: str) -> str:
    """Who leads alone, and on how many nobody does."""
    alone: dict[str, list[Verdict]] = {}
    for verdict in contests:
        if len(verdict.leaders) == 1:
            alone.setdefault(verdict.leaders[0], []).append(verdict)
    listing = list(dict.fromkeys(name for verdict in contests for name in verdict.best["optimizer"]))
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


def winners(found: Frame) -> Frame:
    """The leaders by training loss beside the leaders by the reported metric, where these differ.

    Which of the two decides, and chooses the learning rate, decides many comparisons: Wilson et al. 2017,
    arXiv:1705.08292; Choi et al. 2019, arXiv:1910.05446. So the training loss is taken at the trial with its least
    median, the reported metric at the trial that validation chose; with fresh seeds there is only the latter.

    Takes outcomes of all trials. Columns problem, optimizer, training, training_low, training_high, minimises, score,
    score_low, score_high, generalises.
    """
    parts, kept = [], ["middle", "low", "high", "leads"]
    for problem, rows in found.groupby("problem", sort=False):
        if not (rows["training"] == rows["score"]).all():
            minimising = at_best(rows.assign(selection=rows["training"], finish=math.inf))
            sides = ("training", "minimises", minimising), ("score", "generalises", at_best(rows))
            both = [
                spreads(best, name)[kept].set_axis([name, f"{name}_low", f"{name}_high", word], axis=1)
                for name, word, best in sides
            ]
            parts.append(pd.concat(both, axis=1).reset_index().assign(problem=problem))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["problem", "optimizer"])
