"""All optimizers in one table: how they rank on real tasks and on toys, what they cost, how carefully to tune them."""

from __future__ import annotations

import itertools
import math
import statistics
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from optbench.report import markdown
from optbench.report.content import Content
from optbench.report.parts import Part
from optbench.report.standing import Standing
from optbench.stats import Frame
from optbench.stats.profiles import algoperf_scores
from optbench.stats.ranking import LEAST_PROBLEMS
from optbench.wording import count, interval, listed, number


class Cell(NamedTuple):
    """A number of the table: its text, and what it is sorted by; less comes first."""

    text: str = "-"
    key: float = math.inf


@dataclass(frozen=True)
class Overview(Part):
    """A row for each optimizer, best first."""

    content: Content

    @property
    def note(self) -> str:
        kind = next(iter(self.content.kinds))
        return (
            f"mean rank: over {kind}s, 1 is best; in brackets the 95 % interval over tasks, which a statement about "
            "other tasks needs; the bar: thin over tasks, thick over seeds. group: optimizers that share a letter do "
            "not differ significantly in mean rank over these tasks; a-c is a, b and c. leads: tasks that it leads "
            "alone, and tasks on which it is not distinguishable from the leader. solved: tasks whose main target the "
            "median seed reached. decades: width of the working learning-rate range, the median over tasks; 0 where "
            "none works. cost: time of a step over that of the cheapest, the geometric mean. state/param: numbers of "
            "state per parameter, the median. Toys show how a method behaves, not how it will rank on a network."
        )

    @property
    def caption(self) -> str:
        """What the bar spans, and why everything is one group where nothing can differ."""
        standing = self.content.standings["steps"]
        if standing.refusals:
            return f"All optimizers. {standing.refusals[0]}"
        over, names = standing.rows["problem"].nunique(), len(standing.ranks)
        said = f"Mean rank from 1 (left, best) to {names}."
        if over < LEAST_PROBLEMS:
            few = count(over, standing.kind)
            said += f" All are one group: over {few} no pair can differ significantly; that takes {LEAST_PROBLEMS}."
        if 1 < len(best := standing.candidates) < names:
            said += f" With 95 % confidence the best is one of {len(best)}: {listed(best, 'or')}."
        return said

    @cached_property
    def header(self) -> list[str]:
        _, *others = self.content.kinds
        more = [text for kind in others for text in (f"rank on {kind}s", f"{kind}s solved")]
        return ["mean rank", "group", "leads", "solved", "decades", "cost", "state/param", *more]

    @cached_property
    def rows(self) -> dict[str, list[Cell]]:
        """The cells of each optimizer under `header`."""
        first, *others = (axes["steps"] for axes in self.content.kinds.values())
        main, groups, toys = ranked(first), letters(first), [ranked(each) for each in others]
        table = self.content.summary.assign(cost=relative_cost(self.content.summary))
        by_optimizer = table[table["problem"].isin(first.ranked)].groupby("optimizer", sort=False)
        costs, leads = {name: cost_of(rows) for name, rows in by_optimizer}, self.leads(first.ranked)
        none = Cell(), Cell()
        found = {}
        for name in self.content.optimizers:
            rank, solved = main.get(name, none)
            found[name] = [
                rank, groups.get(name, Cell()), leads[name], solved, *costs.get(name, [Cell()] * 3),
                *(cell for part in toys for cell in part.get(name, none)),
            ]  # fmt: skip
        return dict(sorted(found.items(), key=lambda item: (item[1][0].key, item[1][2].key)))

    @cached_property
    def bars(self) -> dict[str, dict[str, float]]:
        """The places of mean rank and intervals in percent, for those that are ranked."""
        standing = self.content.standings["steps"]
        if standing.refusals:
            return {}
        last = max(1, len(standing.ranks) - 1)
        keys = ("rank", "low", "high", "low_tasks", "high_tasks")
        return {
            row["optimizer"]: {key: 3 + 94 * (row[key] - 1) / last for key in keys}
            for row in standing.ranks.to_dict("records")
        }

    def leads(self, problems: frozenset[str]) -> dict[str, Cell]:
        contests = [each for each in self.content.verdicts if each.contested and each.name in problems]
        alone = Counter(each.leaders[0] for each in contests if len(each.leaders) == 1)
        tied = Counter(name for each in contests if len(each.leaders) > 1 for name in each.leaders)
        return {
            name: Cell(f"{alone[name]} alone, {tied[name]} tied", -alone[name] - tied[name] / 1000)
            for name in self.content.optimizers
        }

    def markdown(self) -> str:
        rows = [[name, *(cell.text for cell in cells)] for name, cells in self.rows.items()]
        return f"{markdown.table(['optimizer', *self.header], rows)}\n\n{markdown.escape(self.note)}"


def relative_cost(table: Frame) -> Frame:
    """The time of a step of each row over that of its problem's cheapest optimizer, a series."""
    return table["microseconds"] / table.groupby("problem")["microseconds"].transform("min")


def geometric_mean(values: Frame) -> float:
    known = values.dropna()
    return statistics.geometric_mean(known) if len(known) else math.nan


def cost_of(rows: Frame) -> list[Cell]:
    """Working range, cost and state."""
    decades = rows.loc[rows["trials"] > 1, "decades"].fillna(0.0).median()
    cost, state = geometric_mean(rows["cost"]), float(rows["state"].median())
    return [
        Cell(f"{decades:.1f}", -decades) if math.isfinite(decades) else Cell(),
        Cell(number(cost, 2), cost) if math.isfinite(cost) else Cell(),
        Cell(number(state), state) if math.isfinite(state) else Cell(),
    ]


def ranked(standing: Standing) -> dict[str, tuple[Cell, Cell]]:
    """Rank and solved problems of each optimizer; nothing where there is no ranking."""
    if standing.refusals:
        return {}
    solved, found = algoperf_scores(standing.rows).set_index("optimizer"), {}
    for row in standing.ranks.to_dict("records"):
        counts = solved.loc[row["optimizer"]]
        rank = interval(row["rank"], row["low_tasks"], row["high_tasks"])
        reached = f"{counts['solved']:.0f}/{counts['problems']:.0f}"
        found[row["optimizer"]] = Cell(rank, row["rank"]), Cell(reached, -counts["solved"])
    return found


def letters(standing: Standing) -> dict[str, Cell]:
    """The groups of neighbours in rank that do not differ significantly: `a`, or `a-c` for all three."""
    if standing.refusals:
        return {}
    letters = string.ascii_lowercase
    names = [*letters, *map("".join, itertools.product(letters, repeat=2))]
    groups: dict[str, list[int]] = {}
    for place, members in enumerate(standing.cliques):
        for name in members:
            groups.setdefault(name, []).append(place)
    # Groups are runs of neighbours, so an optimizer is in all between its first and its last.
    return {
        name: Cell("-".join(names[at] for at in dict.fromkeys((places[0], places[-1]))), places[0])
        for name, places in groups.items()
    }


def optimizers(content: Content) -> Sequence[Part]:
    return [Overview(content)] if len(content.optimizers) > 1 else []
