"""Who leads on each problem, and whether the seeds are enough to say so."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from optbench.record import Question
from optbench.stats import Frame
from optbench.stats.curves import median_interval, middle
from optbench.stats.outcomes import chosen, final, steps_to
from optbench.stats.settings import PROBLEM, kept_apart, question_of
from optbench.stats.summary import trying


def leaders(frame: Frame) -> Frame:
    """For each problem and optimizer at its best learning rate: the compared number and whether it leads.

    Where an optimizer reaches a final target, at which lanes stop, the losses no longer compare and the steps to
    that target do (`by` is 'steps'); elsewhere it is the final value of the reported metric (`by` is 'value').
    The least median leads, and with it everything whose interval overlaps its interval. Columns: those of
    `PROBLEM`, optimizer, by, metric, target, middle, low, high, seeds, leads.
    """
    return pd.concat([on_problem(rows) for rows in kept_apart(frame)], ignore_index=True)


def on_problem(rows: Frame) -> Frame:
    """The optimizers of one problem."""
    question = question_of(rows)
    best = {str(name): chosen(group) for name, group in rows.groupby("optimizer", sort=False)}
    by, metric, target, values = compared(best, question)
    problem = {name: rows[name].iloc[0] for name in PROBLEM}
    spreads = {name: median_interval(value) for name, value in values.items()}
    _, _, first = min(spreads.values())  # the upper end of the least median's interval
    found = [
        {
            "optimizer": name,
            "seeds": len(values[name]),
            "middle": center,
            "low": low,
            "high": high,
            "leads": math.isfinite(center) and low <= first,
        }
        for name, (center, low, high) in spreads.items()
    ]
    return pd.DataFrame(found).assign(by=by, metric=metric, target=target, **problem)


def compared(best: dict[str, Frame], question: Question) -> tuple[str, str, float, dict[str, np.ndarray]]:
    """What is compared: (by, metric, target value, optimizer to a number for each seed; less is better)."""
    target = question.last
    if target.final:
        steps = {name: steps_to(rows, target.metric, target.value) for name, rows in best.items()}
        if any(middle(value) < math.inf for value in steps.values()):
            return "steps", target.metric, target.value, steps
    return (
        "value",
        question.score,
        math.nan,
        {name: final(rows, question.score) for name, rows in best.items()},
    )


def sensitivity(rows: Frame, question: Question) -> Frame:
    """The final selection metric of one optimizer at each learning rate.

    Columns: trial, middle, low, high, lanes, lost (lanes that diverged or failed).
    """
    found = []
    for trial, group in trying(rows).groupby("trial", dropna=False):
        values = final(group, question.selection)
        center, low, high = median_interval(values)
        lost = int(np.isinf(values).sum())
        found.append(
            {"trial": trial, "middle": center, "low": low, "high": high, "lanes": len(group), "lost": lost}
        )
    return pd.DataFrame(found)
