"""Who leads on each problem, and whether the seeds are enough to say so."""

from __future__ import annotations

import math

import pandas as pd

from optbench.stats import Frame
from optbench.stats.curves import median_interval, middle
from optbench.stats.outcomes import at_best, on_problem, trying
from optbench.stats.settings import PROBLEM, question_of


def leaders(rows: Frame) -> Frame:
    """For each optimizer of one problem at its best learning rate: the compared number and whether it leads.

    Where an optimizer reaches a final target, at which lanes stop, the losses no longer compare and the steps to
    that target do (`by` is 'steps'); elsewhere it is the final value of the reported metric (`by` is 'value').
    The least median leads, and with it everything whose interval overlaps its interval. Columns: those of
    `PROBLEM`, optimizer, by, metric, target, middle, low, high, seeds, leads.
    """
    question = question_of(rows)
    best = at_best(on_problem(rows)).groupby("optimizer", sort=False)
    target = question.last
    by_steps = bool((best["finish"].agg(middle) < math.inf).any())
    found = best["finish" if by_steps else "score"].agg(median_interval)
    table = pd.DataFrame(found.tolist(), columns=["middle", "low", "high"], index=found.index).reset_index()
    first = table.sort_values(["middle", "low", "high"])["high"].iloc[0]
    return table.assign(
        seeds=best.size().to_numpy(), leads=(table["middle"] < math.inf) & (table["low"] <= first),
        by="steps" if by_steps else "value", metric=target.metric if by_steps else question.score,
        target=target.value if by_steps else math.nan, **{name: rows[name].iloc[0] for name in PROBLEM},
    )  # fmt: skip


def sensitivity(rows: Frame) -> Frame:
    """The final selection metric of one optimizer at each learning rate.

    Columns: trial, middle, low, high, lanes, lost (lanes that diverged or failed).
    """
    groups = trying(on_problem(rows)).groupby("trial", dropna=False)["selection"]
    return pd.DataFrame(
        [
            (trial, *median_interval(values.to_numpy()), len(values), (values == math.inf).sum())
            for trial, values in groups
        ],
        columns=["trial", "middle", "low", "high", "lanes", "lost"],
    )
