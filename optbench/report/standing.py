"""Who stands where over all problems, on one axis; or why nobody is ranked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optbench.stats import Frame
from optbench.stats.aggregates import improvement
from optbench.stats.budgets import certificate, refusal, unequal
from optbench.stats.outcomes import AXES, Block, at_best, complete, outcomes
from optbench.stats.profiles import performance_profiles
from optbench.stats.ranking import ALPHA, cliques, friedman, mean_ranks, pairs, problems_needed
from optbench.stats.stability import disagreements, flips, lead_of_first
from optbench.stats.times import distributions, runtimes
from optbench.wording import count, listed, p_value

SPOKEN = {"steps": "steps", "seconds": "seconds", "gradients": "gradient equivalents"}
"""What an axis is called."""


@dataclass(frozen=True)
class Standing:
    """The comparison over problems on one axis."""

    frame: Frame
    certified: Frame
    """What each optimizer was given, as `stats.budgets.certificate` says it."""
    axis: str
    allow_unequal: bool = False

    @cached_property
    def outcomes(self) -> Frame:
        """One row for each cell."""
        return outcomes(self.frame, self.axis)

    @cached_property
    def best(self) -> Frame:
        """The rows at the trials that are reported."""
        return at_best(self.outcomes)

    @cached_property
    def block(self) -> Block:
        """What can be compared over several problems."""
        return complete(self.best)

    @property
    def rows(self) -> Frame:
        """The outcomes that are ranked."""
        return self.block.rows

    @cached_property
    def refusals(self) -> list[str]:
        """Why nobody is ranked, if so."""
        problems, names = (self.rows[column].nunique() for column in ("problem", "optimizer"))
        if problems < 2 or names < 2:
            return ["A ranking needs at least two optimizers that were run on the same two problems."]
        said = refusal(self.differing)
        return [] if self.allow_unequal or not said else [said]

    @cached_property
    def differing(self) -> Frame:
        """Where budgets differ, as `stats.budgets.unequal` says it."""
        certified = self.certified
        inside = [certified[column].isin(self.rows[column]) for column in ("problem", "optimizer")]
        return unequal(certified[inside[0] & inside[1]], self.axis)

    @property
    def unequal(self) -> list[str]:
        """The same in words."""
        return self.differing["says"].tolist()

    @property
    def left_out(self) -> str:
        """Who and what is not ranked, in a sentence."""
        parts = [
            f"{kind} {listed(names)}"
            for kind, names in (("optimizers", self.block.optimizers), ("problems", self.block.problems))
            if names
        ]
        return f"Left out, since not all were run on all: {'; '.join(parts)}." if parts else ""

    @cached_property
    def ranks(self) -> Frame:
        """Mean ranks, best first."""
        return mean_ranks(self.rows)

    @cached_property
    def tested(self) -> Frame:
        """Every pair, tested."""
        return pairs(self.rows)

    @cached_property
    def cliques(self) -> list[list[str]]:
        """Neighbours in rank that cannot be told apart."""
        found = cliques(self.ranks, self.tested)
        return [rows["optimizer"].tolist() for _, rows in found.groupby("clique")]

    @cached_property
    def sentences(self) -> list[str]:
        """What the tests say."""
        solved, names = self.rows["problem"].nunique(), len(self.ranks)
        test = friedman(self.rows)
        said = []
        if math.isfinite(test.f_p):
            can = "rejects" if test.f_p <= ALPHA else "does not reject"
            said.append(f"Friedman's test (Iman and Davenport's form) {can} equality: {p_value(test.f_p)}.")
        apart = self.tested[self.tested["differ"]]
        said += [
            f"{row['optimizer']} differs from {row['other']}: better on {row['better']} problems, worse on "
            f"{row['worse']} (Wilcoxon, Holm, {p_value(row['holm'])})."
            for row in apart.to_dict("records")
        ]
        needed = problems_needed(names)
        if apart.empty:
            least = (
                f"; with {names} optimizers it takes at least {needed} problems" if solved < needed else ""
            )
            said.append(
                f"No pairwise difference is significant over {solved} problems{least} (Wilcoxon's signed ranks, Holm)."
            )
        said += [
            f"The mean rank puts {one} before {other}, AlgoPerf's score {other} before {one}."
            for one, other in disagreements(self.rows)
        ]
        gaps = self.leads
        said += [
            f"{row['optimizer']}'s lead over {row['other']} in {name} is {row['difference']:.2g} "
            f"[{row['low']:.2g}, {row['high']:.2g}] over problems ({p_value(row['p'])})."
            for name, row in gaps.items()
        ]
        return said

    @property
    def sentence(self) -> str:
        """Who ranks best, how sure that is and what it hangs on; nothing where nobody is ranked."""
        if self.refusals:
            return ""
        best, over = self.ranks.iloc[0], self.rows["problem"].nunique()
        name = best["optimizer"]
        apart = {row.other if row.optimizer == name else row.optimizer for row in self.tested.itertuples()
                 if row.differ and name in (row.optimizer, row.other)}  # fmt: skip
        rest = [other for other in self.ranks["optimizer"] if other != name and other not in apart]
        sure = (
            f"not significantly better than {' or '.join(rest)}"
            if rest
            else "significantly better than each other"
        )
        reversed_ = len(self.flips)
        orders = (
            f"; leaving out one optimizer or task would reverse {count(reversed_, 'pair')} (see Ranks)"
            if reversed_
            else ""
        )
        return (
            f"Over the {over} problems {name} has the best mean rank, {best['rank']:.2g} of {len(self.ranks)} "
            f"(95% interval over problems {best['low_tasks']:.2g} to {best['high_tasks']:.2g}): {sure}{orders}."
        )

    @cached_property
    def flips(self) -> list[str]:
        """Every order that is reversed without one other optimizer or problem."""
        return flips(self.rows).query("flipped")["says"].tolist()

    @property
    def leads(self) -> dict[str, Any]:
        """The lead of the first over the second, in mean rank and in AlgoPerf's score."""
        return {
            name: lead_of_first(self.rows, by)
            for by, name in (("rank", "mean rank"), ("score", "AlgoPerf's score"))
        }

    @cached_property
    def profiles(self) -> Frame:
        """Performance profiles."""
        return performance_profiles(self.rows)

    @cached_property
    def runtimes(self) -> Frame:
        """When each target of the ladder was reached."""
        return runtimes(self.frame, self.rows)

    @cached_property
    def distributions(self) -> Frame:
        """Runtime distributions."""
        return distributions(self.runtimes)

    @cached_property
    def improvement(self) -> tuple[list[str], list[list[tuple[str, bool]]]]:
        """Optimizers, best first, and for each pair the chance that the first's run is better; whether that is sure."""
        names = self.ranks["optimizer"].tolist()
        found = improvement(self.rows).set_index(["optimizer", "other"])
        rows = [
            [chance(found.loc[(one, other)]) if one != other else ("", False) for other in names]
            for one in names
        ]
        return names, rows


def standings(frame: Frame, allow_unequal: bool) -> dict[str, Standing]:
    """One for each axis, steps first."""
    certified = certificate(frame)
    return {
        axis: Standing(frame, certified, axis, allow_unequal) for axis in sorted(AXES, key=list(SPOKEN).index)
    }


def chance(row: Any) -> tuple[str, bool]:
    """A probability of improvement, and whether its interval over problems leaves out one half."""
    return f"{100 * row['probability']:.0f} %", bool(row["low_tasks"] > 0.5 or row["high_tasks"] < 0.5)
