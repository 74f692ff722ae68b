"""The comparison table: for each task and optimizer, its best learning rate and what it gives there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from optbench import tasks
from optbench.core import Status, Task
from optbench.stats.curves import history, median_interval, middle, records
from optbench.stats.settings import PROBLEM, kept_apart

RAN = (Status.DONE, Status.REACHED, Status.DIVERGED)
"""The statuses of cells that say something about the method."""
HEADER = (
    "task",
    "optimizer",
    "best lr",
    "final loss",
    "test error",
    "steps",
    "decades",
    "us/step",
    "st/par",
    "div",
)


def task_of(rows: pd.DataFrame) -> Task:
    """The task that rows of one task ran."""
    fields = json.loads(rows["spec"].iloc[0])["task"]
    return tasks.names()[fields.pop("name")].replace(**fields)


def final(rows: pd.DataFrame, metric: str) -> np.ndarray:
    """The last value of a metric for each row; infinite where the cell failed or diverged.

    The loss of a lane that reached its target is the loss it reached.
    """
    values = []
    for row in records(rows, metric):
        if row["status"] not in (Status.DONE, Status.REACHED):
            values.append(math.inf)
        elif metric == "loss" and row["status"] == Status.REACHED:
            values.append(float(row["losses"][-1]) if "losses" in row else target_loss(row))
        else:
            values.append(float(row[f"evaluation.{metric}"][-1]))
    found = np.array(values)
    return np.where(np.isfinite(found), found, math.inf)


def target_loss(row: Mapping[str, Any]) -> float:
    """The value in a row's reason, for frames read without curves."""
    return float(row["reason"].split()[1])


def steps_to(rows: pd.DataFrame, metric: str, value: float) -> np.ndarray:
    """The first step at which each row's metric is at or below a value; infinite if never.

    A training loss without noise is looked at after each step, everything else at the evaluations.
    """
    found = []
    for row in records(rows, metric):
        steps, values = history(row, metric)
        hits = np.flatnonzero(values <= value)
        found.append(float(steps[hits[0]]) if len(hits) else math.inf)
    return np.array(found)


def working_range(rows: pd.DataFrame, task: Task) -> tuple[float, bool]:
    """Decades of the longest run of learning rates that reach the task's first target in the median seed.

    Returns (decades, whether the range meets an edge of the grid, so that it is at least that wide).
    """
    target = task.targets()[0]
    groups = dict(list(rows.groupby("trial")))
    trials = list(groups)
    works = [middle(steps_to(group, target.metric, target.value)) < math.inf for group in groups.values()]
    best = longest_run(works)
    if best is None or len(trials) < 2:
        return math.nan, False
    first, last = best
    return math.log10(trials[last] / trials[first]), first == 0 or last == len(trials) - 1


def longest_run(flags: list[bool]) -> tuple[int, int] | None:
    """First and last index of the longest run of True."""
    best, start = None, None
    for i, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = i
        elif not flag and start is not None:
            if best is None or i - 1 - start > best[1] - best[0]:
                best = (start, i - 1)
            start = None
    return best


def best_trial(rows: pd.DataFrame, task: Task) -> tuple[Any, bool]:
    """The trial with the least median of the selection metric over seeds, and whether it is at the grid's edge."""
    if rows["trial"].isna().any():
        return None, False
    groups = dict(list(rows.groupby("trial")))
    trials = list(groups)
    scores = [middle(final(group, task.selection)) for group in groups.values()]
    # Lanes that stop at the target tie there; among equals the one that got there first wins.
    target = task.targets()[-1]
    speed = [math.inf] * len(trials)
    if target.final:
        speed = [middle(steps_to(group, target.metric, target.value)) for group in groups.values()]
    index = min(range(len(trials)), key=lambda i: (speed[i], scores[i]))
    return trials[index], len(trials) > 1 and index in (0, len(trials) - 1)


def chosen(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The rows of one optimizer at its best trial."""
    trial, _ = best_trial(rows, task)
    return rows if trial is None else rows[rows["trial"] == trial]


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each (task, setting, optimizer), in the order of the frame.

    Rows at different settings (schedule, framework, dtype, steps, kind of device) are never averaged.
    """
    if frame.empty:
        return pd.DataFrame(columns=[*PROBLEM, "optimizer"])
    return pd.DataFrame([summarise_one(rows) for rows in kept_apart(frame, [*PROBLEM, "optimizer"])])


def summarise_one(rows: pd.DataFrame) -> dict[str, Any]:
    """What one optimizer gave on one task."""
    task = task_of(rows)
    trial, edge = best_trial(rows, task)
    best = rows if trial is None else rows[rows["trial"] == trial]
    targets = task.targets()
    main = targets[min(1, len(targets) - 1)]
    decades, open_ended = working_range(rows, task) if trial is not None else (math.nan, False)
    loss_metric = "loss" if task.score == "loss" else "train_loss"
    loss, loss_low, loss_high = median_interval(final(best, loss_metric))
    score, score_low, score_high = median_interval(final(best, task.score))
    return {
        **rows[[*PROBLEM, "optimizer"]].iloc[0].to_dict(),
        "trial": trial,
        "trial_at_edge": edge,
        "trials": rows["trial"].nunique(),
        "seeds": len(best),
        "loss": loss,
        "loss_low": loss_low,
        "loss_high": loss_high,
        "metric": task.score,
        "score": score,
        "score_low": score_low,
        "score_high": score_high,
        "target": f"{main.metric} {main.value:g}",
        "steps_to_target": middle(steps_to(best, main.metric, main.value)),
        "decades": decades,
        "decades_open": open_ended,
        **costs(rows[rows["status"].isin(RAN)]),
        "lanes": len(rows),
        "diverged": int((rows["status"] == Status.DIVERGED).sum()),
        "failed": int((~rows["status"].isin(RAN)).sum()),
        "toy": task.toy,
    }


def costs(ran: pd.DataFrame) -> dict[str, float]:
    """What a step takes: microseconds, state floats per parameter, gradient equivalents; NaN if nothing ran."""
    if ran.empty or "seconds_per_step" not in ran:
        return dict.fromkeys(("microseconds", "state", "gradients_per_step"), math.nan)
    # Counts are taken at evaluations, so they belong to the last of these, not to the step a lane ended at.
    counted = ran["evaluation_steps"].map(lambda steps: steps[-1] if len(steps) and steps[-1] else math.nan)
    return {
        "microseconds": ran["seconds_per_step"].median() * 1e6,
        "state": ran["state_floats_per_parameter"].median(),
        "gradients_per_step": (ran["gradient_equivalents"] / counted).median(),
    }


def texts(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One row of the table as it is printed, a text for each entry of `HEADER`."""
    return (
        row["task"],
        row["optimizer"],
        "-" if pd.isna(row["trial"]) else f"{row['trial']:.3g}" + "*" * bool(row["trial_at_edge"]),
        spread(row["loss"], row["loss_low"], row["loss_high"]),
        percent(row["score"], row["score_low"], row["score_high"]) if row["metric"] != "loss" else "-",
        number(row["steps_to_target"]),
        "-" if math.isnan(row["decades"]) else ">=" * bool(row["decades_open"]) + f"{row['decades']:.1f}",
        "-" if math.isnan(row["microseconds"]) else f"{row['microseconds']:.3g}",
        "-" if math.isnan(row["state"]) else f"{row['state']:.3g}",
        f"{row['diverged']}/{row['lanes']}" + (f"+{row['failed']}!" if row["failed"] else ""),
    )


def as_text(table: pd.DataFrame) -> str:
    """The table in at most 100 columns, for a terminal or a log."""
    lines = [HEADER, *map(texts, table.to_dict("records"))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = ("task", "optimizer")
    padded = [
        [
            text.ljust(width) if name in left else text.rjust(width)
            for name, text, width in zip(HEADER, line, widths, strict=True)
        ]
        for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def spread(middle_: float, low: float, high: float) -> str:
    """`1.2e-08 [1e-09, 3e-08]`, or the value alone where there is no spread."""
    if math.isinf(middle_):
        return "failed"
    if low == high:
        return f"{middle_:.2g}"
    return f"{middle_:.2g} [{low:.1g},{high:.1g}]".replace("inf", "fail")


def percent(middle_: float, low: float, high: float) -> str:
    """A fraction as percent, with its spread where there is one."""
    if math.isinf(middle_):
        return "failed"
    if low == high:
        return f"{100 * middle_:.1f}%"
    return f"{100 * middle_:.1f}% [{100 * low:.1f},{100 * high:.1f}]".replace("inf", "fail")


def number(value: float) -> str:
    """A count of steps, or a dash for never."""
    return "-" if not math.isfinite(value) else f"{value:.0f}"
