"""Rows of two optimizers on one task, paired by seed, as numbers: losses, choice of a learning rate, cost."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from optbench.cell import Status
from optbench.stats import Frame
from optbench.stats.costs import costs, memory
from optbench.stats.curves import middle
from optbench.stats.outcomes import compared, known, on_problem, steps_to
from optbench.stats.settings import question_of

RESAMPLES = 2000
"""Of the tuning seeds, for how sure the choice of a learning rate is."""
TINY = 1e-12
"""Of the first loss: what is below counts as this, so that a loss of 0 has a logarithm."""


def log_losses(rows: Frame) -> np.ndarray:
    """log10 of each row's final loss (the metric that selects), above the optimum where that is known.

    A loss above that of the first parameters counts as that, and so does a run that diverged: no single seed decides.
    A run that stopped at the final target counts as the target times the share of the steps that it took.
    """
    question = question_of(rows)
    found = on_problem(rows)
    spent = (found["finish"] / found["budget"]).to_numpy()
    values = compared(found["selection"].to_numpy(), spent, question)
    if not question.last.final:
        values = values - (question.optimum or 0.0)
    seen = known(rows, question.selection)
    first = np.array([each.values[0] if len(each.values) else math.nan for each in seen])
    first = first - (question.optimum or 0.0)
    return np.log10(np.clip(values, TINY * first, first))


class Choice(NamedTuple):
    """The learning rate that the tuning seeds choose."""

    rate: float | None
    again: float
    """The share of resamples of the tuning seeds that choose the same."""
    at_edge: bool


def choose(rows: Frame, rates: list[float]) -> Choice:
    """The rate with the least mean of log losses over the tuning seeds."""
    if not rates:
        return Choice(None, 1.0, False)
    logs = np.stack([log_losses(rows[rows["trial"] == rate].sort_values("seed")) for rate in rates])
    best = int(np.argmin(logs.mean(1)))
    picks = np.random.default_rng(0).integers(logs.shape[1], size=(RESAMPLES, logs.shape[1]))
    again = float(np.mean(np.argmin(logs[:, picks].mean(2), axis=0) == best))
    return Choice(rates[best], again, len(rates) > 1 and best in (0, len(rates) - 1))


def same_bits(left: Frame, right: Frame) -> bool:
    """Whether all losses and evaluations of two sides are the same numbers."""
    names = ["losses", *(name for name in left if name.startswith("evaluation."))]
    pairs = ((a, b) for name in names for a, b in zip(left[name], right[name], strict=True))
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs if a is not None and np.ndim(a))


def starts_apart(left: Frame, right: Frame) -> bool:
    """Whether the first losses differ by more than rounding: then seeds are no pairs."""
    first = [np.array([float(losses[0]) for losses in rows["losses"]]) for rows in (left, right)]
    return not np.allclose(*first, rtol=1e-4, equal_nan=True)


def stands_still(rows: Frame) -> bool:
    """Whether no evaluation ever differs from the first: the parameters do not move."""
    values = [np.asarray(each) for each in rows[f"evaluation.{question_of(rows).selection}"]]
    return all(len(each) > 1 and (each == each[0]).all() for each in values)


def moved(left: Frame, right: Frame) -> float | None:
    """The mean difference of log losses of two sides, where a paired t test at 1 % sees one."""
    from scipy.stats import ttest_1samp

    differences = log_losses(left) - log_losses(right)
    if not np.ptp(differences):
        return float(differences[0]) or None
    return float(differences.mean()) if ttest_1samp(differences, 0.0).pvalue < 0.01 else None


def diverged(rows: Frame) -> int:
    """How many runs diverged."""
    return int((rows["status"] == Status.DIVERGED).sum())


def figures(rows: Frame, target: float) -> dict[str, Any]:
    """Of one side at its chosen rate: final loss and steps to a loss (medians over seeds), cost of a step, memory."""
    question = question_of(rows)
    steps = middle(steps_to(rows, question.selection, target))
    cost = costs(rows)
    return {
        "final_loss": final_loss(rows),
        "steps_to_equal_loss": steps,
        "seconds_to_equal_loss": steps * cost["microseconds"] / 1e6,
        "microseconds_per_step": cost["microseconds"],
        "gradients_per_step": cost["gradients_per_step"],
        "state_floats_per_parameter": cost["state"],
        "kilobytes_per_lane": 1e3 * memory(rows)["lane_megabytes"],
        "diverged": diverged(rows),
    }


def final_loss(rows: Frame) -> float:
    """The median over seeds of the final value of the metric that selects."""
    return middle(on_problem(rows)["selection"].to_numpy())


def metric_of(rows: Frame) -> str:
    """The metric that selects."""
    return question_of(rows).selection
