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
from optbench.stats.bootstrap import left_out, resampled_weights, scored, table
from optbench.stats.curves import known, median_interval
from optbench.stats.outcomes import crossings, ladder
from optbench.stats.paired import below, half_width, share_interval
from optbench.stats.settings import NEEDED, PROBLEM, question_of

PENALTY = 10
"""The k of PAR-k: a run that did not reach the target counts as k budgets."""
TARGETS = 51
"""Rungs of the ladder of targets, as in COCO."""
DECADES = 3.0
"""The area under a runtime distribution begins so many decades below the full budget."""


def times_to_target(rows: Frame) -> Frame:
    """The time of each optimizer to each problem's main target, failures included, on the axis of the outcomes.

    A run that did not reach the target counts its full budget, also where it diverged early: failing fast is not being
    fast. One row for each problem and optimizer: problem, optimizer, runs, reached (number of them), share_low and
    share_high (the 95 % interval of the share that reaches), middle, low, high (the median and its interval, infinite
    where the median seed never reaches it), ert (total time of all runs over the number that reached; infinite if
    none), par (the mean, a failure counting PENALTY budgets), their 95 % intervals ert_low, ert_high, par_low, par_high
    (t intervals of the jackknife on logarithms), below (the one-sided p that the mean log of the target's metric at the
    end is below the target; NaN without that column), resolution (steps between evaluations), budget.
    """
    found = []
    for (problem, optimizer), group in rows.groupby(["problem", "optimizer"], sort=False):
        times, budget = group["time"].to_numpy(float), float(group["budget"].iloc[0])
        reached, count = np.isfinite(times), len(group)
        penalised = np.where(reached, times, PENALTY * budget)
        found.append({
            "problem": problem, "optimizer": optimizer, "runs": count, "reached": int(reached.sum()),
            **dict(zip(("share_low", "share_high"), share_interval(int(reached.sum()), count), strict=True)),
            **dict(zip(("middle", "low", "high"), median_interval(times), strict=True)),
            **dict(zip(("ert", "ert_low", "ert_high"), mean_ratio(np.minimum(times, budget), reached), strict=True)),
            **dict(zip(("par", "par_low", "par_high"), mean_ratio(penalised, np.ones(count)), strict=True)),
            "below": below(group["over"].to_numpy(float), 1.0) if "over" in group else math.nan,
            "resolution": group["resolution"].max() if "resolution" in group else math.nan, "budget": budget,
        })  # fmt: skip
    return pd.DataFrame(found)


def mean_ratio(spent: np.ndarray, reached: np.ndarray) -> tuple[float, float, float]:
    """sum(spent) / sum(reached), with the t interval of the jackknife of its logarithm."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(spent.sum() / reached.sum())
        without = np.log((spent.sum() - spent) / (reached.sum() - reached))
    if not (np.isfinite(without).all() and math.isfinite(ratio)):
        return ratio, 0.0 if math.isfinite(ratio) else math.inf, math.inf
    half = float(half_width((len(spent) - 1) * without))
    return ratio, ratio * math.exp(-half), ratio * math.exp(min(half, 700))


def runtimes(frame: Frame, rows: Frame, targets: int = TARGETS) -> Frame:
    """The time of each reported run to each of many targets.

    The targets of a problem lie between its median first value of the selection metric and the hardest target, evenly
    in the logarithm of the distance to the optimum, so they do not depend on which optimizers are compared. No
    restarts are simulated. Takes rows of cells, and their outcomes at the reported trials. Columns problem, optimizer,
    seed, rung (1 to targets, from easy to hard), target (its value), time (infinite if never), budget.
    """
    found = []
    frame = frame[[name for name in frame if name in NEEDED or str(name).startswith("evaluation.")]]
    for _, group in rows.groupby(list(PROBLEM), sort=False, dropna=False):
        lanes = frame.loc[group.index]
        question = question_of(lanes)
        first, hardest, budget = group[["first", "hardest", "budget"]].iloc[0]
        rungs = ladder(first, hardest, question, targets)
        steps = np.stack([crossings(lane, rungs) for lane in known(lanes, question.selection)])
        times = np.nan_to_num(steps * group["cost"].to_numpy()[:, None], nan=math.inf)
        runs = group[["problem", "optimizer", "seed", "budget"]].loc[group.index.repeat(targets)]
        each = {"rung": np.tile(np.arange(1, targets + 1), len(group)), "target": np.tile(rungs, len(group))}
        within = np.where(times <= budget * (1 + 1e-9), times, math.inf)
        found.append(runs.assign(**each, time=within.ravel()))
    return pd.concat(found, ignore_index=True)


def distributions(reached: Frame, points: int = 61, decades: float = DECADES) -> Frame:
    """The share of (problem, target, seed) that each optimizer had reached by a share of the budget (COCO's ECDF).
    From `runtimes` of a complete block, at `points` shares of the budget, evenly spaced on a log scale over so many
    decades below 1. Columns optimizer, spent (share of the budget), share. Problems have equal weight.
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
    """
    share = (reached["time"] / reached["budget"]).to_numpy(float)
    with np.errstate(divide="ignore"):
        each = np.clip(-np.log10(share) / decades, 0, 1)
    runs = reached.assign(area=each).groupby(["problem", "optimizer", "seed"], sort=False)["area"].mean()
    data = table(runs.reset_index(), "area")
    values = np.where(data.ran, data.values, 0.0)
    drawn = np.einsum("bopn,opn->bop", resampled_weights(data), values) / data.counts
    each = values.sum(axis=-1) / data.counts
    return scored(data, "area", each.mean(axis=-1), drawn.mean(axis=-1), left_out(each))
