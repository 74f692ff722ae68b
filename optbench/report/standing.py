"""The comparison over problems on one axis, or why there is no ranking."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from optbench.stats import Frame, ranking
from optbench.stats.budgets import certificate, refusal, unequal
from optbench.stats.outcomes import Block, at_best, complete, on_axes
from optbench.stats.profiles import published
from optbench.stats.settings import kept_apart, labels, question_of
from optbench.stats.times import runtimes
from optbench.stats.verdict import KINDS
from optbench.wording import count, interval, listed, p_value, some

FEW = 6
"""More pairs of optimizers than this are counted in a sentence, or folded away."""
SPOKEN = {"steps": "steps", "seconds": "seconds", "gradients": "gradient equivalents"}


@dataclass(frozen=True)
class Standing:
    """Outcomes over problems on one axis, with what several panels need of them."""

    frame: Frame
    certified: Frame
    """The budget of each optimizer (`stats.budgets.certificate`)."""
    axis: str
    allow_unequal: bool
    outcomes: Frame
    """One row for each cell."""
    best: Frame
    """The rows at the trials that are reported, of every kind."""
    kind: str
    """What is ranked: real tasks or toys, never both together; nothing of the other kind is left out of a ranking."""
    ranked: frozenset[str]
    """The labels of the problems of that kind."""

    @property
    def reported(self) -> Frame:
        """The rows at the trials that are reported, of this kind."""
        return self.best[self.best["problem"].isin(self.ranked)]

    @cached_property
    def block(self) -> Block:
        """The optimizers and problems that are ranked: all of them on all of them."""
        return complete(self.reported)

    @property
    def rows(self) -> Frame:
        return self.block.rows

    @cached_property
    def refusals(self) -> list[str]:
        problems, names = (self.rows[column].nunique() for column in ("problem", "optimizer"))
        if problems < 2 or names < 2:
            return [f"A ranking needs at least two optimizers that were run on the same two {self.kind}s."]
        text = refusal(self.differing)
        return [text] if text and not self.allow_unequal else []

    @cached_property
    def differing(self) -> Frame:
        """Where budgets differ (`stats.budgets.unequal`)."""
        inside = [self.certified[column].isin(self.rows[column]) for column in ("problem", "optimizer")]
        return unequal(self.certified[inside[0] & inside[1]], self.axis)

    @property
    def left_out(self) -> str:
        """The optimizers and problems that are not ranked, in a sentence."""
        names = {"optimizers": self.block.optimizers, "problems": self.block.problems}
        parts = [f"{kind} {listed(each)}" for kind, each in names.items() if each]
        return f"Left out, since not all were run on all: {'; '.join(parts)}." if parts else ""

    @cached_property
    def ranks(self) -> Frame:
        """Mean ranks, best first."""
        return ranking.mean_ranks(self.rows)

    @cached_property
    def tested(self) -> Frame:
        return ranking.pairs(self.rows)

    @cached_property
    def cliques(self) -> list[list[str]]:
        """Neighbours in rank that do not differ significantly."""
        found = ranking.cliques(self.ranks, self.tested)
        return [rows["optimizer"].tolist() for _, rows in found.groupby("clique")]

    @cached_property
    def candidates(self) -> list[str]:
        """Those among which the best is, with 95 % confidence."""
        return ranking.candidates(self.rows)

    def sentences(self) -> Iterator[str]:
        over, names = self.rows["problem"].nunique(), len(self.ranks)
        test = ranking.friedman(self.rows)
        if math.isfinite(test.f_p):
            verb = "rejects" if test.f_p <= ranking.ALPHA else "does not reject"
            yield f"Friedman's test (Iman and Davenport's form) {verb} equality of the optimizers: {p_value(test.f_p)}."
        significant = self.tested[self.tested["differ"]]
        if len(significant) > FEW:
            for name, its in significant.groupby("optimizer", sort=False):
                yield f"{name} is significantly better in mean rank than {listed([*its['other']])}."
        else:
            for row in significant.to_dict("records"):
                yield (
                    f"{row['optimizer']} is significantly better in mean rank than {row['other']}: better on "
                    f"{row['better']} problems, worse on {row['worse']} ({p_value(row['p'])}, corrected for all pairs)."
                )
        if significant.empty:
            least = f"; it takes at least {ranking.LEAST_PROBLEMS}" * (over < ranking.LEAST_PROBLEMS)
            yield f"No pairwise difference in mean rank is significant over {over} problems{least}."
        opposite = ranking.disagreements(self.rows, *published(self.frame))
        if len(opposite) > FEW:
            every = math.comb(names, 2)
            yield f"The mean rank and AlgoPerf's score put {len(opposite)} of {every} pairs in opposite orders."
        else:
            for one, other in opposite:
                yield f"The mean rank puts {one} before {other}, AlgoPerf's score {other} before {one}."
        for by, name in (("rank", "mean rank"), ("score", "AlgoPerf's score")):
            row = ranking.lead_of_first(self.rows, by, *published(self.frame))
            lead = interval(row["difference"], row["low"], row["high"])
            sure = f"over problems ({p_value(row['p'])})"
            if row["low"] == row["high"]:  # without spread a t test says nothing
                sure = "on each problem"
            if math.isfinite(row["low"]):  # one problem has no interval
                yield f"{row['optimizer']}'s lead over {row['other']} in {name} is {lead} {sure}."

    @property
    def sentence(self) -> str:
        """The best mean rank, how sure it is and what it depends on; '' without a ranking."""
        if self.refusals:
            return ""
        best = self.ranks.iloc[0]
        name = best["optimizer"]
        rows = self.tested[self.tested["differ"] & self.tested[["optimizer", "other"]].eq(name).any(axis=1)]
        apart = {name, *rows["optimizer"], *rows["other"]}
        tied = [other for other in self.ranks["optimizer"] if other not in apart]
        sure = (
            f"not significantly better than {some(tied, 'or')}"
            if tied
            else "significantly better than every other"
        )
        if tied and len(self.candidates) < len(self.ranks):
            sure += f"; with 95% confidence the best is one of {len(self.candidates)} ({some(self.candidates, 'or')})"
        turned = count(len(self.flips), "pair")
        depends = f"; leaving out one optimizer or task would reverse {turned} (see Ranks)" * bool(self.flips)
        over = count(self.rows["problem"].nunique(), self.kind)
        rank = interval(best["rank"], best["low_tasks"], best["high_tasks"])
        # Ranks without spread say nothing of their own error.
        sign = "the same on each" if best["low_tasks"] == best["high_tasks"] else "95% interval over tasks"
        return (
            f"Over the {over} {name} has the best mean rank of {len(self.ranks)}, {rank} ({sign}); "
            f"{sure}{depends}."
        )

    @cached_property
    def flips(self) -> list[str]:
        """Every order that is reversed without one other optimizer or problem."""
        return ranking.flips(self.rows).query("flipped")["says"].tolist()

    @cached_property
    def runtimes(self) -> Frame:
        """When each target of the ladder was reached."""
        return runtimes(self.frame, self.rows)


def standings(frame: Frame, allow_unequal: bool) -> dict[str, dict[str, Standing]]:
    """One for each kind of task, real ones first, and each axis, steps first; `frame` has one row for each cell.

    At several schedules each has rankings of its own: a task does not count twice.
    """
    certified, found, names = certificate(frame), on_axes(frame, [*SPOKEN]), labels(frame)
    schedules, of = frame["schedule"].unique(), {toy: kind for kind, toy in KINDS.items()}
    under = {schedule: f"{schedule} " * (len(schedules) > 1) for schedule in schedules}
    members: dict[str, list[str]] = {under[schedule] + kind: [] for kind in KINDS for schedule in schedules}
    for rows in kept_apart(frame):
        kind = under[rows["schedule"].iloc[0]] + of[question_of(rows).toy]
        members[kind].append(str(names[rows.index[0]]))
    best = {axis: at_best(each) for axis, each in found.items()}
    return {
        kind: {
            axis: Standing(frame, certified, axis, allow_unequal, each, best[axis], kind, frozenset(own))
            for axis, each in found.items()
        }
        for kind, own in members.items() if own
    }  # fmt: skip
