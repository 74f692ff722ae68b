"""The leaders of each problem, by its ranking number, its training loss and its reported metric."""

from __future__ import annotations

import math

import pandas as pd

from optbench.record import SECONDS, Question
from optbench.stats import Frame
from optbench.stats.curves import median_interval
from optbench.stats.outcomes import at_best, by_trial, trying
from optbench.stats.paired import spreads
from optbench.stats.settings import PROBLEM


def leaders(best: Frame, question: Question) -> Frame:
    """For each optimizer of one problem, from outcomes at its best trial: the compared number and whether it leads.

    Where an optimizer reaches a final target, at which lanes stop, the losses no longer compare and the steps to
    that target do (`by` is 'steps'); elsewhere it is the final value of the reported metric (`by` is 'value'). The test
    takes the outcome `compared`, so that a run that stopped short of the target still counts with its loss. Columns:
    those of `PROBLEM` and `spreads`, optimizer, by, metric, target, reached (seeds that reached the final target).
    """
    target = question.last
    by_steps = bool((best.groupby("optimizer")["finish"].median() < math.inf).any())
    reached = (best["finish"] < math.inf).groupby(best["optimizer"], sort=False).sum()
    table = spreads(best, "finish" if by_steps else "score", "compared").assign(reached=reached)
    return table.reset_index().assign(
        by="steps" if by_steps else "value", unit=SECONDS if question.unit == SECONDS else "steps",
        metric=target.metric if by_steps else question.score,
        target=target.value if by_steps else math.nan, **{name: best[name].iloc[0] for name in PROBLEM},
    )  # fmt: skip


def winners(found: Frame) -> Frame:
    """The leaders by training loss beside the leaders by the reported metric, where these differ.

    Which of the two decides, and chooses the learning rate, decides many comparisons: Wilson et al. 2017,
    arXiv:1705.08292; Choi et al. 2019, arXiv:1910.05446. So the training loss is taken at the trial with its least
    median, the reported metric at the trial that validation chose; with fresh seeds there is only the latter.

    Takes outcomes of all trials. Columns problem, optimizer, training, training_low, training_high, minimises, score,
    score_low, score_high, generalises.
    """
    parts = []
    for problem, rows in found.groupby("problem", sort=False):
        if not (rows["training"] == rows["score"]).all():
            minimising = at_best(rows.assign(selection=rows["training"], finish=math.inf))
            sides = [spreads(minimising, "training"), spreads(at_best(rows), "score")]
            for side, (name, word) in zip(
                sides, (("training", "minimises"), ("score", "generalises")), strict=True
            ):
                side.columns = [name, f"{name}_low", f"{name}_high", "seeds", "p", word]
            both = pd.concat([side.drop(columns=["seeds", "p"]) for side in sides], axis=1).reset_index()
            parts.append(both.assign(problem=problem))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["problem", "optimizer"])


def sensitivity(seen: Frame) -> Frame:
    """The final selection metric at each learning rate, from outcomes of one optimizer on one problem.

    Columns: trial, middle, low, high, lanes, lost (lanes that diverged or failed).
    """
    groups = by_trial(trying(seen), "selection").items()
    columns = ["trial", "middle", "low", "high", "lanes", "lost"]
    found = [(at, *median_interval(each), len(each), (each == math.inf).sum()) for at, each in groups]
    return pd.DataFrame(found, columns=columns)
