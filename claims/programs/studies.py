"""What ordinary runs give, for claims about training: read from stored rows, in the driver."""

import math
from collections.abc import Sequence
from typing import Any

from optbench.stats import Frame
from optbench.stats.outcomes import final, on_problem, steps_to
from optbench.stats.settings import kept_apart, question_of
from optbench.stats.summary import best_trial, working_range


def study(frames: Sequence[Frame]) -> dict[str, Any]:
    """For each run, each of its tasks (at one setting) and optimizers; lists have a value for each seed."""

    def by_name(rows: Frame) -> dict[str, dict[str, Any]]:
        return {str(name): one(group) for name, group in rows.groupby("optimizer", sort=False)}

    return {"runs": [{str(rows["task"].iloc[0]): by_name(rows) for rows in kept_apart(f)} for f in frames]}


def one(rows: Frame) -> dict[str, Any]:
    """One optimizer on one task: at every learning rate, at the best, and what each seed alone would choose."""
    question, seen = question_of(rows), on_problem(rows)
    best, rates = best_trial(seen)[0], {float(rate): group for rate, group in rows.groupby("trial")}
    seeds = [group for _, group in seen.groupby("seed")]
    ranges = [working_range(group) for group in seeds]
    evaluated = rates[best]["evaluation_steps"].map(lambda steps: steps[-1])
    return {
        "best": at_rate(best, rates[best], question),
        "best_rates": [best_trial(group)[0] for group in seeds],
        "decades": [0.0 if math.isnan(each["decades"]) else each["decades"] for each in ranges],
        "open": any(each["decades_open"] for each in ranges),
        "gradients_per_step": float((rates[best]["gradient_equivalents"] / evaluated).median()),
        "rates": [at_rate(rate, group, question) for rate, group in rates.items()],
    }


def at_rate(rate: float, rows: Frame, question: Any) -> dict[str, Any]:
    """At one learning rate: the last loss (that of selection), the score, and steps to the first and main target."""
    rows, first, main = rows.sort_values("seed"), question.targets[0], question.main
    values = {
        "loss": final(rows, question.selection),
        "score": final(rows, question.score),
        "first": steps_to(rows, first.metric, first.value),
        "steps": steps_to(rows, main.metric, main.value),
    }
    return {"rate": rate} | {name: [float(value) for value in seeds] for name, seeds in values.items()}
