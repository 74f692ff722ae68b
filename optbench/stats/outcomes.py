"""Outcomes: what each cell gave within a common budget, as numbers that every comparison starts from.

An axis says in what a budget is counted. On `steps` every optimizer may use the whole horizon. On `gradients`
(gradient-equivalents) and `seconds` a step costs each optimizer something else, so all are read where the budget of
the cheapest ends: its horizon times its cost of a step. What is reached later than that is not reached.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from optbench.cell import Status
from optbench.record import Question
from optbench.stats import Frame
from optbench.stats.costs import costs_of
from optbench.stats.curves import history, middle, records
from optbench.stats.settings import PROBLEM, SETTING, kept_apart, labels, question_of

AXES = ("steps", "gradients", "seconds")
"""In what a budget can be counted: optimizer steps, gradient-equivalents, seconds of one lane."""


def outcomes(frame: Frame, axis: str = "steps") -> Frame:
    """One row for each cell: what it had reached when the common budget ended. The index is that of `frame`.

    Columns: those of `PROBLEM`, `problem` (its label), optimizer, trial, seed, status, `trial_default` and
    `stage` where the frame has them, and

    - cost: what a step costs on the axis, the median over the optimizer's lanes, amortised over the steps they ran
    - budget: the common budget on the axis
    - time: until the task's main target was reached, on the axis; infinite if never
    - finish: until the final target, at which lanes stop; infinite if never, or if there is none
    - selection, training, score: the metric that chooses, the training loss, the reported metric; less is better
    - compared: what a problem ranks by: the reported metric, and below it, for a run that reached the final target
      (where it stopped, so that its loss no longer compares), that target times the share of the budget it took
    - progress: the share of the way from the first value of the selection metric to its hardest target, 0 to 1, on
      a log scale: 1 is solved, 0 is no better than at the start
    - first, hardest: the ends of that way

    A cell that diverged or failed is infinite in time, finish and values (unless it got there before), 0 in progress.
    """
    if frame.empty:
        return pd.DataFrame(columns=[*PROBLEM, "problem", "optimizer"])
    names = labels(frame)
    found = pd.concat([on_problem(rows, axis) for rows in kept_apart(frame)])
    found.insert(len(PROBLEM), "problem", names.loc[found.index])
    return found


def on_problem(rows: Frame, axis: str = "steps") -> Frame:
    """The outcomes of one problem."""
    question = question_of(rows)
    per_step = costs_of(rows, axis)
    least = per_step.min()  # NaN, where nothing ran, is skipped
    budget = float(rows["steps"].iloc[0]) * (least if math.isfinite(least) else 1.0)
    cost = rows["optimizer"].map(per_step).to_numpy(float)
    # A horizon divided and multiplied by the same cost must not lose its last step.
    stop = np.nan_to_num(np.floor(budget / cost * (1 + 1e-9)), nan=0.0)
    goals = {"time": question.main, "finish": question.last if question.last.final else None}
    training = "loss" if question.score == "loss" else "train_loss"
    metrics = {"selection": question.selection, "training": training, "score": question.score}
    looked = dict.fromkeys([*metrics.values(), *(goal.metric for goal in goals.values() if goal)])
    seen = {metric: known(rows, metric) for metric in looked}
    values = {name: value_at(seen[metric], stop) for name, metric in metrics.items()}
    times = {
        name: np.full(len(rows), math.inf)
        if goal is None
        else cost * step_to(seen[goal.metric], goal.value, stop)
        for name, goal in goals.items()
    }
    first, hardest = ends(seen[question.selection], values["selection"], question)
    wanted = (*PROBLEM, "optimizer", "trial", "trial_default", "seed", "status", "stage")
    kept = [name for name in wanted if name in rows]
    return rows[kept].assign(
        cost=cost, budget=budget,
        **{name: np.where(np.isnan(time), math.inf, time) for name, time in times.items()},
        **values, compared=compared(values["score"], times["finish"] / budget, question),
        progress=progress(values["selection"], first, hardest, question), first=first, hardest=hardest,
    )  # fmt: skip


class Seen(NamedTuple):
    """What one cell showed of a metric: the steps at which it is known, the values, and whether it ended well."""

    steps: np.ndarray
    values: np.ndarray
    well: bool


def known(rows: Frame, metric: str) -> list[Seen]:
    """Each row's history of a metric; a lane that reached its final target also knows the loss it reached."""
    found = []
    for row in records(rows, metric):
        steps, values = history(row, metric)
        if metric == "loss" and row["status"] == Status.REACHED:
            steps, values = with_last(row, steps, values)
        found.append(Seen(steps, values, Status(row["status"]).finished))
    return found


def with_last(
    row: Mapping[Hashable, Any], steps: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A history with the step at which its lane stopped, and the loss there."""
    at, loss = len(row["losses"]) - 1, row["losses"][-1]
    if len(steps) and int(at) <= steps[-1]:
        return steps, values
    return np.append(steps, int(at)), np.append(values, float(loss))


def value_at(seen: list[Seen], stops: np.ndarray) -> np.ndarray:
    """The latest value known at a step, for each cell; infinite if it had been lost by then, or never ran."""
    found = np.full(len(seen), math.inf)
    for i, (cell, stop) in enumerate(zip(seen, stops, strict=True)):
        at = int(np.searchsorted(cell.steps, stop, side="right")) - 1
        if at >= 0 and (cell.well or stop <= cell.steps[-1]):
            found[i] = cell.values[at]
    return np.where(np.isfinite(found), found, math.inf)


def step_to(seen: list[Seen], value: float, stops: np.ndarray) -> np.ndarray:
    """The first step at which each cell is known to be at or below a value, infinite if not within its budget."""
    found = np.full(len(seen), math.inf)
    for i, (cell, stop) in enumerate(zip(seen, stops, strict=True)):
        hits = np.flatnonzero(cell.values <= value)
        if len(hits) and cell.steps[hits[0]] <= stop:
            found[i] = cell.steps[hits[0]]
    return found


def final(rows: Frame, metric: str) -> np.ndarray:
    """The last value of a metric for each row, the loss it reached for a lane that stopped there; infinite if lost."""
    return value_at(known(rows, metric), np.full(len(rows), math.inf))


def steps_to(rows: Frame, metric: str, value: float) -> np.ndarray:
    """The first step at which each row's metric is known to be at or below a value; infinite if never."""
    return step_to(known(rows, metric), value, np.full(len(rows), math.inf))


def ends(seen: list[Seen], values: np.ndarray, question: Question) -> tuple[float, float]:
    """The median first value of the selection metric and its hardest target (or the least value, if there is none)."""
    firsts = np.array([cell.values[0] for cell in seen if len(cell.values)])
    first = middle(firsts) if len(firsts) else math.inf
    declared = [target.value for target in question.targets if target.metric == question.selection]
    return first, declared[-1] if declared else float(values.min())


def compared(values: np.ndarray, spent: np.ndarray, question: Question) -> np.ndarray:
    """Values above the optimum, runs that reached the final target below them, in the order in which they did."""
    least, last = question.optimum or 0.0, question.last
    goal = last.value - least
    if not last.final or goal <= 0:
        return values
    above = values - least if last.metric == question.score else goal + values
    return np.where(np.isfinite(spent), goal * spent, above)


def progress(values: np.ndarray, first: float, hardest: float, question: Question) -> np.ndarray:
    """How far each value is on the way from `first` to `hardest`, by the logarithm of what is left to the optimum."""
    least = question.optimum or 0.0
    start, end = first - least, hardest - least
    if not (math.isfinite(start) and end > 0 and start > end):
        return (values <= hardest).astype(float)
    left = np.clip(values - least, end, start)
    return np.log(start / left) / math.log(start / end)


def ladder(first: float, hardest: float, question: Question, rungs: int) -> np.ndarray:
    """Targets from just below `first` to `hardest`, evenly spaced in progress."""
    least = question.optimum or 0.0
    start, end = first - least, hardest - least
    if not (math.isfinite(start) and end > 0 and start > end):
        return np.full(rungs, hardest)
    return least + start * (end / start) ** (np.arange(1, rungs + 1) / rungs)


def at_best(found: Frame) -> Frame:
    """The rows of each optimizer at the trial that a comparison reports.

    It is the trial with the least median of the selection metric, or, where a final target ends lanes, with the
    fewest steps to it. Where winners were run again with fresh seeds (`stage` is 'report'), it is those rows.
    """
    if "stage" in found:
        return found[found["stage"] == "report"]
    place = ["finish", "selection"]
    keys = [*PROBLEM, "optimizer", "trial"]
    medians = found.groupby(keys, sort=False, dropna=False)[place].agg(lambda x: middle(x.to_numpy()))
    best = medians.reset_index().sort_values([*place, "trial"]).drop_duplicates(keys[:-1])
    wanted = pd.MultiIndex.from_frame(best[keys].fillna(-1))
    return found[pd.MultiIndex.from_frame(found[keys].fillna(-1)).isin(wanted)]


def chosen(rows: Frame) -> Frame:
    """The rows of one optimizer on one problem at the trial that is reported."""
    return rows.loc[at_best(on_problem(rows)).index]


class Block(NamedTuple):
    """Optimizers that were run on the same problems, and what that leaves out, by name."""

    rows: Frame
    optimizers: list[str]
    problems: list[str]


def complete(found: Frame) -> Block:
    """What can be compared over several problems: optimizers all of which were run on each of them.

    One setting, since JAX's numbers are not PyTorch's, and one horizon of each task, the longest, since two would
    count it twice. Of the sets of problems that some optimizer was run on, the one that gives most outcomes.
    """
    settings = [name for name in SETTING if name != "steps"]
    one = found[found["steps"] == found.groupby(["task", *settings], dropna=False)["steps"].transform("max")]
    best, size = one.iloc[:0], (False, 0)
    for _, rows in one.groupby(settings, sort=False, dropna=False):
        met = rows.groupby("optimizer", sort=False)["problem"].agg(frozenset)
        for problems in dict.fromkeys(met):
            names = [name for name, run in met.items() if problems <= run]
            if (len(names) > 1, len(names) * len(problems)) > size:
                size = (len(names) > 1, len(names) * len(problems))
                best = rows[rows["optimizer"].isin(names) & rows["problem"].isin(problems)]
    left = [
        [str(name) for name in found[column].unique() if name not in set(best[column])]
        for column in ("optimizer", "problem")
    ]
    return Block(best, *left)
