"""Outcomes: the results of each cell within a common budget; every comparison starts from them.

The budget is counted on an axis. On `steps` every optimizer may use the full horizon. On `gradients`
(gradient-equivalents) and `seconds` the cost of a step differs between optimizers, so all are compared at the cheapest
one's total budget: its horizon times its cost of a step. Anything later does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from optbench.record import IMPORTED, Question
from optbench.stats import Frame
from optbench.stats.costs import costs_of
from optbench.stats.curves import Seen, known, middle
from optbench.stats.settings import PROBLEM, SETTING, kept_apart, labels, question_of

AXES = ("steps", "gradients", "seconds")
"""The units of a budget: optimizer steps, gradient-equivalents, seconds of one lane."""


def outcomes(frame: Frame, axis: str = "steps") -> Frame:
    """One row for each cell: its state at the end of the common budget. The index is that of `frame`.

    Columns: those of `PROBLEM`, `problem` (its label), optimizer, trial, seed, status, `trial_default` and
    `stage` where the frame has them, and

    - cost: what a step costs on the axis, the median over the optimizer's lanes, amortised over the steps they ran
    - budget: the common budget on the axis
    - works, time, finish: until the first, the main and the final target was reached, on the axis; infinite if never.
      Lanes stop at the final target; not every task has one
    - selection, training, score: the selection metric, the training loss, the reported metric; less is better
    - compared: the number that optimizers are ranked by: the reported metric, and below it, for a run that stopped at
      the final target (so that its loss no longer compares), that target times the share of the budget it took
    - over: the main target's metric over the target; resolution: steps between its evaluations; seeded: whether
      anything in the task is random
    - progress: from 0 at the first value of the selection metric to 1 at its hardest target, on a log scale
    - first, hardest: these two values

    A cell that diverged or failed is infinite in times and values (unless it got there before), 0 in progress.
    """
    return on_axes(frame, (axis,))[axis]


def on_axes(frame: Frame, axes: Sequence[str] = AXES) -> dict[str, Frame]:
    """`outcomes` on several axes, from one reading of the rows."""
    if frame.empty:
        return dict.fromkeys(axes, pd.DataFrame(columns=[*PROBLEM, "problem", "optimizer"]))
    names, problems = labels(frame), [Histories(rows) for rows in kept_apart(frame)]
    found = {axis: pd.concat([problem.on(axis) for problem in problems]) for axis in axes}
    for each in found.values():
        each.insert(len(PROBLEM), "problem", names.loc[each.index])
    return found


class Histories:
    """The rows of one problem, with the histories that outcomes on any axis are made from."""

    def __init__(self, rows: Frame):
        self.rows, self.question = rows, (question := question_of(rows))
        goals = {"works": question.first, "time": question.main}
        goals |= {"finish": question.last} if question.last.final else {}
        training = "loss" if question.score == "loss" else "train_loss"
        if f"evaluation.{training}" not in rows or not rows[f"evaluation.{training}"].notna().any():
            training = question.score
        metrics = {"selection": question.selection, "training": training, "score": question.score}
        needed = dict.fromkeys([*metrics.values(), *(goal.metric for goal in goals.values())])
        seen = {metric: known(rows, metric) for metric in needed}
        steps = {goal: first_steps(seen[goal.metric], goal.value) for goal in dict.fromkeys(goals.values())}
        self.metrics = {name: seen[metric] for name, metric in metrics.items()}
        self.main = seen[question.main.metric]
        self.steps = {name: steps[goal] for name, goal in goals.items()}

    def on(self, axis: str) -> Frame:
        """The outcomes on an axis, without the problem's label."""
        rows, question = self.rows, self.question
        per_step = costs_of(rows, axis)
        least = per_step.min()  # NaN, where nothing ran, is skipped
        budget = float(rows["steps"].iloc[0]) * (least if math.isfinite(least) else 1.0)
        cost = rows["optimizer"].map(per_step).to_numpy(float)
        # A horizon divided and multiplied by the same cost must not lose its last step.
        stop = np.nan_to_num(np.floor(budget / cost * (1 + 1e-9)), nan=0.0)
        values = {name: value_at(seen, stop) for name, seen in self.metrics.items()}
        times = {"finish": np.full(len(rows), math.inf)}
        for name, steps in self.steps.items():
            reached = spent(rows, np.where(steps <= stop, steps, math.inf), cost, axis)
            times[name] = np.where(np.isnan(reached), math.inf, reached)
        over = value_at(self.main, stop) / question.main.value if question.main.value > 0 else math.nan
        resolution = max((int(np.diff(cell.steps).max(initial=0)) for cell in self.main), default=0)
        firsts = [cell.values[0] for cell in self.metrics["selection"] if len(cell.values)]
        first = middle(np.array(firsts)) if firsts else math.inf
        declared = [target.value for target in question.targets if target.metric == question.selection]
        hardest = declared[-1] if declared else float(values["selection"].min())
        wanted = (*PROBLEM, "optimizer", "trial", "trial_default", "seed", "status", "stage")
        return pd.DataFrame({
            **{name: rows[name] for name in wanted if name in rows}, "cost": cost, "budget": budget, **times, **values,
            "over": over, "resolution": resolution, "seeded": question.seeded,
            "compared": compared(values["score"], times["finish"] / budget, question),
            "progress": progress(values["selection"], first, hardest, question), "first": first, "hardest": hardest,
        })  # fmt: skip


def on_problem(rows: Frame) -> Frame:
    """The outcomes of one problem on the axis of steps."""
    return Histories(rows).on("steps")


def spent(rows: Frame, steps: np.ndarray, cost: np.ndarray, axis: str) -> np.ndarray:
    """What the first steps of each row took on an axis; imported rows may have seconds at each evaluation."""
    found = cost * steps
    if axis == "seconds" and "evaluation.seconds" in rows:
        clocks = zip(rows["mode"], rows["evaluation_steps"], rows["evaluation.seconds"], strict=True)
        for place, (mode, at, seconds) in enumerate(clocks):
            if mode == IMPORTED and np.ndim(seconds) and math.isfinite(steps[place]):
                found[place] = np.interp(steps[place], at, seconds)
    return found


def value_at(seen: list[Seen], stops: np.ndarray) -> np.ndarray:
    """The latest value at a step, for each cell; infinite if it had diverged or failed by then, or never ran."""
    found = np.full(len(seen), math.inf)
    for i, (cell, stop) in enumerate(zip(seen, stops, strict=True)):
        at = int(np.searchsorted(cell.steps, stop, side="right")) - 1
        if at >= 0 and (cell.well or stop <= cell.steps[-1]):
            found[i] = cell.values[at]
    return np.where(np.isfinite(found), found, math.inf)


def crossings(cell: Seen, targets: np.ndarray) -> np.ndarray:
    """The first whole step of a cell at or below each target; infinite if never.

    Between two evaluations the logarithm of the value is interpolated, so that times do not depend on how often a task
    evaluates; a metric that is known at every step needs none of it.
    """
    values = np.where(np.isnan(cell.values), np.inf, cell.values)
    best = np.minimum.accumulate(values)
    hits = np.searchsorted(-best, -targets)  # `best` falls, so a prefix of it lies above a target
    after = np.append(cell.steps.astype(float), math.inf)[hits]
    gaps = np.concatenate([[0], np.diff(cell.steps), [0]])[hits]
    inside = np.flatnonzero(gaps > 1)  # nothing lies between two steps that follow each other
    if not len(inside):
        return after
    last, hit = hits[inside] - 1, hits[inside]
    with np.errstate(divide="ignore", invalid="ignore"):
        above, at, below = np.log([best[last], targets[inside], values[hit]])
        part = (above - at) / (above - below) * (cell.steps[hit] - cell.steps[last])
    between = np.clip(cell.steps[last] + np.ceil(part - 1e-9), cell.steps[last] + 1, cell.steps[hit])
    after[inside] = np.where(np.isfinite(above - below), between, after[inside])
    return after


def first_steps(seen: list[Seen], value: float) -> np.ndarray:
    """The first step at which each cell is at or below a value; infinite if never."""
    return np.array([crossings(cell, np.array([value]))[0] for cell in seen])


def final(rows: Frame, metric: str) -> np.ndarray:
    """The last value of a metric in each row; infinite if it diverged or failed."""
    return value_at(known(rows, metric), np.full(len(rows), math.inf))


def steps_to(rows: Frame, metric: str, value: float) -> np.ndarray:
    """The first step at which each row's metric is at or below a value; infinite if never."""
    return first_steps(known(rows, metric), value)


def compared(values: np.ndarray, spent: np.ndarray, question: Question) -> np.ndarray:
    """Distances to the optimum; below all of them, runs that reached the final target, in the order of their times."""
    least, last = question.optimum or 0.0, question.last
    goal = last.value - least
    if not last.final or goal <= 0:
        return values
    above = values - least if last.metric == question.score else goal + values
    return np.where(np.isfinite(spent), goal * spent, above)


def progress(values: np.ndarray, first: float, hardest: float, question: Question) -> np.ndarray:
    """From 0 at `first` to 1 at `hardest`, in the logarithm of the distance to the optimum."""
    least = question.optimum or 0.0
    start, end = first - least, hardest - least
    if not 0 < end < start < math.inf:
        return (values <= hardest).astype(float)
    return np.log(start / np.clip(values - least, end, start)) / math.log(start / end)


def ladder(first: float, hardest: float, question: Question, rungs: int) -> np.ndarray:
    """Targets from just below `first` to `hardest`, evenly spaced in progress."""
    least = question.optimum or 0.0
    start, end = first - least, hardest - least
    if not 0 < end < start < math.inf:
        return np.full(rungs, hardest)
    return least + start * (end / start) ** (np.arange(1, rungs + 1) / rungs)


def at_best(found: Frame) -> Frame:
    """The rows of each optimizer at the trial that a comparison reports.

    It is the trial with the least median of the selection metric, or, where a final target ends lanes, with the
    fewest steps to it. Where winners were run again with fresh seeds (`stage` is 'report'), it is those rows.
    """
    if "stage" in found:
        return found[found["stage"] == "report"]
    by, keys = ["finish", "selection"], [*PROBLEM, "optimizer"]
    # Numbers in place of nine columns: most of the time goes into comparing labels.
    rows = found.assign(
        of=found.groupby(keys, sort=False, dropna=False).ngroup(),
        at=found.groupby("trial", sort=False, dropna=False).ngroup(),
    )
    trials = rows.groupby(["of", "at"], sort=False)
    medians = trials[by].median().assign(trial=trials["trial"].first())
    best = medians.sort_values([*by, "trial"]).reset_index().drop_duplicates("of")
    chosen = dict(zip(best["of"], best["at"], strict=True))
    return found[(rows["at"] == rows["of"].map(chosen)).to_numpy()]


def trying(rows: Frame) -> Frame:
    """The rows of trials: those of stage 'tuning', or all where there are no stages."""
    return rows[rows["stage"] == "tuning"] if "stage" in rows else rows


def by_trial(rows: Frame, column: str) -> dict[float, np.ndarray]:
    """The numbers of a column at each trial; those of rows without one come last."""
    codes, trials = pd.factorize(rows["trial"], sort=True, use_na_sentinel=False)
    values = rows[column].to_numpy(float)
    return {trial: values[codes == place] for place, trial in enumerate(trials)}


def chosen(rows: Frame) -> Frame:
    """The rows of one optimizer on one problem at the trial that is reported."""
    return rows.loc[at_best(on_problem(rows)).index]


class Block(NamedTuple):
    """Optimizers that were run on the same problems, and the names of those that are left out."""

    rows: Frame
    optimizers: list[str]
    problems: list[str]


def complete(found: Frame) -> Block:
    """The largest set of optimizers all of which were run on each of a set of problems.

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
