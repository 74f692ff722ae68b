"""Rank stability: does the order of two optimizers depend on a third, or on one task?

Mean ranks and AlgoPerf's scores depend on the set of optimizers and problems (Benavoli, Corani and Mangili 2016, JMLR
17(5):1-10). So each optimizer and each problem is left out in turn, and every order that changes is listed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.bootstrap import Table, medians, table
from optbench.stats.paired import score_differences
from optbench.stats.profiles import contributions
from optbench.stats.ranking import ranks

ORDERS: dict[str, tuple[str, str, Callable[[Table], np.ndarray]]] = {
    "rank": ("compared", "mean rank", lambda data: ranks(medians(data)).mean(axis=-1)),
    "score": (
        "time",
        "AlgoPerf score",
        lambda data: -contributions(medians(data), data.problems).mean(axis=-1),
    ),
}
"""The column that an order is made from, the order's name, and a number for each optimizer, less being better."""
COLUMNS = ("left_out", "kind", "ahead", "behind", "before", "after", "flipped", "says")


def flips(rows: Frame) -> Frame:
    """Every pair of optimizers whose order changes when one other optimizer, or one problem, is left out.

    A pair that then shares a mean rank is listed too, but has not `flipped`; one that shares it before has no order.
    Columns left_out, kind ('optimizer' or 'problem'), ahead and behind (their order of mean ranks with everything
    included), before and after (the lead of `ahead`; negative once it is behind), says (the sentence).
    """
    column, word, number = ORDERS["rank"]
    data = table(rows, column)
    whole = number(data)
    found = []
    for kind, names in (("optimizer", data.optimizers), ("problem", data.problems)):
        if len(names) < (3 if kind == "optimizer" else 2):
            continue
        for out, name in enumerate(names):
            kept = [i for i in range(len(data.optimizers)) if kind == "problem" or i != out]
            rest = number(without(data, kind, out))
            for (a, i), (b, j) in itertools.combinations(enumerate(kept), 2):
                before, after = whole[j] - whole[i], rest[b] - rest[a]
                if abs(before) < 1e-12 or (abs(after) > 1e-12 and np.sign(before) == np.sign(after)):
                    continue
                ahead, behind = (i, j) if before > 0 else (j, i)
                pair = (data.optimizers[ahead], data.optimizers[behind])
                gap = -abs(float(after)) if abs(after) > 1e-12 else 0.0
                says = sentence(name, kind, *pair, gap, word)
                found.append((name, kind, *pair, abs(float(before)), gap, gap < 0, says))
    return pd.DataFrame(found, columns=list(COLUMNS))


def disagreements(rows: Frame) -> list[tuple[str, str]]:
    """Pairs of which the first has the better mean rank and the second the better AlgoPerf score."""
    ranks_, scores = (number(table(rows, column)) for column, _, number in ORDERS.values())
    names = sorted(rows["optimizer"].unique())
    pairs = itertools.permutations(range(len(names)), 2)
    return [
        (names[i], names[j])
        for i, j in pairs
        if ranks_[i] < ranks_[j] - 1e-12 and scores[i] > scores[j] + 1e-12
    ]


def lead_of_first(
    rows: Frame, by: str = "rank", rule: str = "exact", held_out: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The lead of the first optimizer over the second, with its interval and p over problems (`score_differences`).

    AlgoPerf's score by a rule of `profiles.contributions`.
    """
    data = table(rows, ORDERS[by][0])
    scored = contributions(medians(data), data.problems, rule, held_out)
    each = scored if by == "score" else -ranks(medians(data))
    first, second = np.argsort(-each.mean(axis=-1), kind="stable")[:2]
    names = [data.optimizers[i] for i in (first, second)]
    return score_differences(names, each[[first, second]]).iloc[0].to_dict()


def without(data: Table, kind: str, out: int) -> Table:
    axis = ("optimizer", "problem").index(kind)
    names = [list(data.optimizers), list(data.problems)]
    del names[axis][out]
    return Table(
        tuple(names[0]), tuple(names[1]), np.delete(data.values, out, axis), np.delete(data.counts, out, axis)
    )


def sentence(name: str, kind: str, ahead: str, behind: str, gap: float, word: str) -> str:
    """`Without mlp, kron falls behind adam (mean rank, by 0.5).`"""
    change = "draws level with" if gap == 0 else "falls behind"
    what = f"task {name}" if kind == "problem" else name
    far = "" if gap == 0 else f", by {-gap:.2g}"
    return f"Without {what}, {ahead} {change} {behind} ({word}{far})."
