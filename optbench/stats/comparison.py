"""Rows of two optimizers on one task, paired by seed: losses, the choice of a learning rate, what a try reports."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from optbench.cell import Status
from optbench.stats import Frame
from optbench.stats.costs import costs, memory
from optbench.stats.curves import known, middle
from optbench.stats.outcomes import compared, on_problem, steps_to
from optbench.stats.paired import t_test
from optbench.stats.sequence import estimate, seeds_needed
from optbench.stats.settings import question_of
from optbench.wording import count, number

RESAMPLES = 2000
"""Of the tuning seeds, for how sure the choice of a learning rate is."""
TINY = 1e-12
"""Of the first loss: what is below counts as this, so that a loss of 0 has a logarithm."""


def log_losses(rows: Frame) -> np.ndarray:
    """log10 of each row's final value of the metric that selects, above the optimum where that is known.

    A loss above that of the first parameters counts as that, and so does a run that diverged: no single seed decides.
    A run that stopped at the final target counts as the target times the share of the steps that it took.
    """
    question, found = question_of(rows), on_problem(rows)
    least = question.optimum or 0.0
    values = compared(found["selection"].to_numpy(), (found["finish"] / found["budget"]).to_numpy(), question)
    values = values if question.last.final else values - least
    first = np.array([seen.values[0] - least for seen in known(rows, question.selection)])
    return np.log10(np.clip(values, TINY * first, first))


def choose(rows: Frame | None, rates: Sequence[float | None]) -> dict[str, Any]:
    """The rate with the least mean log loss over the tuning seeds, and how many resamples of these choose the same."""
    if rows is None:  # there is one rate
        return {"learning_rate": rates[0], "chosen_again": 1.0, "at_edge": False}
    logs = log_losses(rows).reshape(len(rates), -1)
    best = int(np.argmin(logs.mean(1)))
    picks = np.random.default_rng(0).integers(logs.shape[1], size=(RESAMPLES, logs.shape[1]))
    again = float(np.mean(np.argmin(logs[:, picks].mean(2), axis=0) == best))
    at_edge = len(rates) > 2 and best in (0, len(rates) - 1)
    return {"learning_rate": rates[best], "chosen_again": again, "at_edge": at_edge}


def report(
    names: Sequence[str],
    rows: Sequence[Frame],
    choices: Sequence[dict[str, Any]],
    renamed: Frame | None,
    alpha: float,
    margin: float,
) -> dict[str, Any]:
    """The verdict on a task from the fresh rows of both sides, with the numbers behind it and what weakens it."""
    logs = [log_losses(each) for each in rows]
    known, sd = estimate(logs[0] - logs[1], alpha), float(logs[1].std(ddof=1))
    target = max(final_loss(each) for each in rows)
    x, against = ({**choice, **figures(own, target)} for choice, own in zip(choices, rows, strict=True))
    varies = min(map(np.ptp, logs)) > 0
    return {
        "verdict": "identical" if same_bits(*rows) else known.verdict(margin),
        "error_rate": alpha,
        "direction": known.direction,
        "metric": question_of(rows[0]).selection,
        "steps": int(rows[0]["steps"].iloc[0]),
        "seeds": known.seeds,
        "seeds_needed": seeds_needed(known, margin, alpha),
        "ratio": 10**known.mean,
        "ratio_low": 10**known.low,
        "ratio_high": 10**known.high,
        "seed_sd": sd,
        "rho": float(np.corrcoef(np.stack(logs))[0, 1]) if varies else math.nan,
        "margin_in_seed_sd": math.log10(margin) / sd if sd else math.nan,
        "x": x,
        "against": against,
        "notes": [*warnings(names, rows, (x, against), renamed)],
    }


def final_loss(rows: Frame) -> float:
    """The median over seeds."""
    return middle(on_problem(rows)["selection"].to_numpy())


def figures(rows: Frame, target: float) -> dict[str, Any]:
    """Of one side at its chosen rate: final loss and steps to a loss (medians over seeds), cost of a step, memory."""
    metric, cost = question_of(rows).selection, costs(rows)
    steps = middle(steps_to(rows, metric, target))
    return {
        "final_loss": final_loss(rows),
        "steps_to_equal_loss": steps,
        "seconds_to_equal_loss": steps * cost["microseconds"] / 1e6,
        "microseconds_per_step": cost["microseconds"],
        "gradients_per_step": cost["gradients_per_step"],
        "kilobytes_per_lane": 1e3 * memory(rows)["lane_megabytes"],
        "diverged": int((rows["status"] == Status.DIVERGED).sum()),
    }


def same_bits(left: Frame, right: Frame) -> bool:
    """Whether all losses and evaluations of two sides are the same numbers."""
    names = ["losses", *(name for name in left if name.startswith("evaluation.") and name in right)]
    pairs = ((a, b) for name in names for a, b in zip(left[name], right[name], strict=True))
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs if np.ndim(a))


def warnings(
    names: Sequence[str], rows: Sequence[Frame], sides: Sequence[dict[str, Any]], renamed: Frame | None
) -> Iterator[str]:
    """What weakens a verdict, a sentence each; that names matter, where a paired t test at 1 % sees other losses."""
    metric = f"evaluation.{question_of(rows[0]).selection}"
    for name, own, side in zip(names, rows, sides, strict=True):
        if all(np.ptp(values) == 0 for values in own[metric]):
            yield f"{name} does not move the parameters."
        if side["at_edge"]:
            yield f"{name} is tuned to {number(side['learning_rate'])}, an end of the rates: give others with --lr."
        if side["diverged"]:
            yield f"{name} diverged in {side['diverged']} of {count(len(own), 'seed')}, which count as no progress."
    gradients = [side["gradients_per_step"] for side in sides]
    if max(gradients) > 1.02 * min(gradients):
        one, other = gradients
        yield f"Equal steps differ in cost: gradient equivalents per step are {one:.3g} and {other:.3g}."
    first = [np.array([next(iter(losses), math.nan) for losses in own["losses"]]) for own in rows]
    if not np.allclose(*first, rtol=1e-4, equal_nan=True):
        yield "The first losses of the two sides differ: their seeds are no pairs."
    if renamed is not None:
        apart = log_losses(renamed) - log_losses(rows[0][rows[0]["seed"].isin(renamed["seed"])])
        if t_test(apart) < 0.01:
            times = number(10 ** apart.mean())
            yield f"{names[0]} depends on the names of parameters: renamed, {times} times the loss."
