"""Time to a target with its failures: expected running time, penalised averages, runtime distributions.

Sources: Hansen, Auger, Brockhoff, Tusar and Tusar, COCO: Performance Assessment, arXiv:1605.03560 (expected running
time, runtime distributions over many targets); Hutter, Hoos, Leyton-Brown and Stutzle 2009, doi:10.1613/jair.2861
(penalised average runtime).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.bootstrap import interval, resampled_problems, resampled_weights, scored, table
from optbench.stats.curves import median_interval
from optbench.stats.outcomes import Seen, known, ladder
from optbench.stats.settings import PROBLEM, question_of

PENALTY = 10
"""The k of PAR-k: a run that did not reach the target counts as k budgets."""
TARGETS = 51
"""Rungs of the ladder of targets, as in COCO."""
DECADES = 3.0
"""The area under a runtime distribution begins so many decades below the full budget."""


def times_to_target(rows: Frame) -> Frame:
    """The time of each optimizer to each problem's main target, failures included, on the axis of the outcomes.

    A run that did not reach the target counts its full budget, also where it diverged early: failing fast is not being
    fast.

    Args:
        rows: outcomes at the reported trials.

    Returns:
        One row for each problem and optimizer: problem, optimizer, runs, reached (number of them), middle, low, high
        (the median and its interval, infinite where the median seed never reaches it), ert (total time of all runs
        over the number that reached; infinite if none), ert_low, ert_high, par (the mean, a failure counting PENALTY
        budgets), par_low, par_high (95 % bootstrap intervals over seeds), budget.
    """
    found = []
    for (problem, optimizer), group in rows.groupby(["problem", "optimizer"], sort=False):
        data, budget = table(group, "time"), float(group["budget"].iloc[0])
        times, count = data.values[0, 0], len(group)
        once, drawn = np.ones((1, count)), resampled_weights(data)[:, 0, 0]
        spent, penalised = np.minimum(times, budget), np.where(np.isfinite(times), times, PENALTY * budget)
        reached = np.isfinite(times)
        middle, low, high = median_interval(times)
        ert_low, ert_high = interval(expected(drawn, spent, reached))
        par_low, par_high = interval(drawn @ penalised / count)
        found.append(
            {
                "problem": problem, "optimizer": optimizer, "runs": count, "reached": int(reached.sum()),
                "middle": middle, "low": low, "high": high,
                "ert": expected(once, spent, reached)[0], "ert_low": ert_low, "ert_high": ert_high,
                "par": penalised.mean(), "par_low": par_low, "par_high": par_high, "budget": budget,
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def expected(weights: np.ndarray, spent: np.ndarray, reached: np.ndarray) -> np.ndarray:
    """Expected running time under weights of the runs [B, N], [B]: total time over the number of successes."""
    with np.errstate(divide="ignore"):
        return (weights @ spent) / (weights @ reached.astype(float))


def runtimes(frame: Frame, rows: Frame, targets: int = TARGETS) -> Frame:
    """The time of each reported run to each of many targets.

    The targets of a problem lie between its median first value of the selection metric and the hardest target, evenly
    in the logarithm of the distance to the optimum, so they do not depend on which optimizers are compared. No
    restarts are simulated.

    Args:
        frame: rows of cells.
        rows: their outcomes at the reported trials.
        targets: number of targets for each problem.

    Returns:
        Columns problem, optimizer, seed, rung (1 to targets, from easy to hard), target (its value), time (on the
        axis of the outcomes, infinite if never), budget.
    """
    found = []
    for _, group in rows.groupby([*PROBLEM, "optimizer"], sort=False, dropna=False):
        lanes = frame.loc[group.index]
        question = question_of(lanes)
        first, hardest, cost, budget = group[["first", "hardest", "cost", "budget"]].iloc[0]
        rungs = ladder(first, hardest, question, targets)
        steps = np.stack([first_below(lane, rungs) for lane in known(lanes, question.selection)])
        times = np.nan_to_num(steps * cost, nan=math.inf)
        runs = group[["problem", "optimizer", "seed", "budget"]].loc[group.index.repeat(targets)]
        each = {"rung": np.tile(np.arange(1, targets + 1), len(group)), "target": np.tile(rungs, len(group))}
        within = np.where(times <= budget * (1 + 1e-9), times, math.inf)
        found.append(runs.assign(**each, time=within.ravel()))
    return pd.concat(found, ignore_index=True)


def first_below(lane: Seen, rungs: np.ndarray) -> np.ndarray:
    """The first step of a cell at or below each of falling values; infinite if never."""
    best = np.minimum.accumulate(np.where(np.isnan(lane.values), np.inf, lane.values))
    # `best` falls, so a prefix of it lies above a rung.
    return np.append(lane.steps.astype(float), math.inf)[np.searchsorted(-best, -rungs, side="left")]


def distributions(reached: Frame, points: int = 61, decades: float = DECADES) -> Frame:
    """The share of (problem, target, seed) that each optimizer had reached by a share of the budget (COCO's ECDF).

    Args:
        reached: from `runtimes`, of problems that all its optimizers were run on.
        points: number of shares of the budget, evenly spaced on a log scale.
        decades: from the first share to 1.

    Returns:
        Columns optimizer, spent (share of the budget), share. Problems have equal weight.
    """
    at = np.geomspace(10.0**-decades, 1, points)
    found = []
    for optimizer, rows in reached.groupby("optimizer", sort=False):
        share = rows["time"].to_numpy(float) / rows["budget"].to_numpy(float)
        weight = 1 / rows.groupby("problem")["time"].transform("size").to_numpy(float)
        order = np.argsort(share)
        upto = np.append(0.0, np.cumsum(weight[order]) / weight.sum())
        below = upto[np.searchsorted(share[order], at * (1 + 1e-9), side="right")]
        found.append(pd.DataFrame({"optimizer": optimizer, "spent": at, "share": below}))
    return pd.concat(found, ignore_index=True)


def areas_under(reached: Frame, decades: float = DECADES) -> Frame:
    """The area under each optimizer's runtime distribution over the logarithm of the budget, 0 to 1.

    1: every target reached within a thousandth of the budget (with three decades); 0: none ever.

    Returns:
        Columns of `scored`: optimizer, area, low, high, low_tasks, high_tasks, problems; the largest first.
    """
    share = (reached["time"] / reached["budget"]).to_numpy(float)
    with np.errstate(divide="ignore"):
        each = np.clip(-np.log10(share) / decades, 0, 1)
    runs = reached.assign(area=each).groupby(["problem", "optimizer", "seed"], sort=False)["area"].mean()
    data = table(runs.reset_index(), "area")
    there = np.arange(data.values.shape[-1]) < data.counts[..., None]
    values = np.where(there, data.values, 0.0)
    drawn = np.einsum("bopn,opn->bop", resampled_weights(data), values) / data.counts
    each = values.sum(axis=-1) / data.counts
    problems = resampled_problems(len(data.problems)) @ each.T
    return scored(data, "area", each.mean(axis=-1), drawn.mean(axis=-1), problems, up=False)
