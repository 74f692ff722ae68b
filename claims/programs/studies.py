"""What ordinary runs say, for claims about training: read from stored rows, in the driver."""

import math
from collections.abc import Sequence
from typing import Any

from optbench.stats import Frame
from optbench.stats.curves import median_interval, middle
from optbench.stats.outcomes import final, on_problem, steps_to
from optbench.stats.settings import kept_apart, question_of
from optbench.stats.summary import best_trial, working_range


def study(frames: Sequence[Frame]) -> dict[str, Any]:
    """For each run, each of its tasks (at one setting) and optimizers: at every learning rate, and at the best."""

    def by_name(rows: Frame) -> dict[str, dict[str, Any]]:
        return {str(name): one(group) for name, group in rows.groupby("optimizer", sort=False)}

    runs = [{str(rows["task"].iloc[0]): by_name(rows) for rows in kept_apart(frame)} for frame in frames]
    return {"runs": runs}


def one(rows: Frame) -> dict[str, Any]:
    """One optimizer on one task at one setting."""
    question, seen = question_of(rows), on_problem(rows)
    trial, edge = best_trial(seen)
    working = working_range(seen)
    best, main = rows[rows["trial"] == trial], question.main
    evaluated = best["evaluation_steps"].map(lambda steps: steps[-1])
    return {
        "seeds": len(best),
        "best_rate": trial,
        "best_at_edge": bool(edge),
        "decades": None if math.isnan(working["decades"]) else working["decades"],
        "decades_meet_edge": working["decades_open"],
        "score": [float(x) for x in median_interval(final(best, question.score))],
        "score_metric": question.score,
        "steps": middle(steps_to(best, main.metric, main.value)),
        "gradients_per_step": float((best["gradient_equivalents"] / evaluated).median()),
        "metric": question.selection,
        "rates": [at_rate(float(rate), group, question) for rate, group in rows.groupby("trial")],
    }


def at_rate(rate: float, rows: Frame, question: Any) -> dict[str, Any]:
    """The final selection metric at one learning rate, and the steps to the first target."""
    target = question.targets[0]
    return {
        "rate": rate,
        "final": [float(x) for x in median_interval(final(rows, question.selection))],
        "steps": middle(steps_to(rows, target.metric, target.value)),
    }
