"""The comparison table: for each task and optimizer, its best learning rate and what it gives there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from optbench.core import Status, Task
from optbench.plan import cell_of

INTERVAL_FROM = 5
"""With fewer seeds than this the spread is shown as min-max, not as an interval."""
RESAMPLES = 2000

COLUMNS = ("task", "optimizer", "trial", "loss", "metric", "steps", "decades", "us/step", "state", "diverged")


def task_of(rows: pd.DataFrame) -> Task:
    """The task that rows of one task ran."""
    return cell_of(json.loads(rows["spec"].iloc[0])).task


def final(rows: pd.DataFrame, metric: str) -> np.ndarray:
    """The last value of a metric for each row; infinite where the cell failed or diverged.

    The loss of a lane that reached its target is the loss it reached.
    """
    values = []
    for row in rows.to_dict("records"):
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


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Median with its 95 % percentile-bootstrap interval, or with min and max for fewer than 5 values."""
    if len(values) == 0:
        return math.nan, math.nan, math.nan
    if len(values) < INTERVAL_FROM:
        return middle(values), float(values.min()), float(values.max())
    picks = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    medians = np.sort(np.sort(values)[np.sort(picks, axis=1)][:, len(values) // 2])
    return middle(values), float(medians[int(0.025 * RESAMPLES)]), float(medians[int(0.975 * RESAMPLES) - 1])


def middle(values: np.ndarray) -> float:
    """The median; for an even count the upper of the middle two, so that it is a value that occurred."""
    return float(np.sort(values)[len(values) // 2])


def steps_to(rows: pd.DataFrame, metric: str, value: float) -> np.ndarray:
    """The first step at which each row's metric is at or below a value; infinite if never.

    A training loss without noise is looked at after each step, everything else at the evaluations.
    """
    found = []
    for row in rows.to_dict("records"):
        if f"evaluation.{metric}" not in row or row[f"evaluation.{metric}"] is None:
            found.append(math.inf)
            continue
        if metric == "loss" and not row.get("task.noise"):
            steps, values = np.arange(len(row["losses"])), np.asarray(row["losses"])
        else:
            steps, values = row["evaluation_steps"], np.asarray(row[f"evaluation.{metric}"])
        hits = np.flatnonzero(values <= value)
        found.append(float(steps[hits[0]]) if len(hits) else math.inf)
    return np.array(found)


def working_range(rows: pd.DataFrame, task: Task) -> tuple[float, bool]:
    """Decades of learning rate around the best that reach the task's first target in the median seed.

    Returns (decades, whether the range meets an edge of the grid, so that it is at least that wide).
    """
    target = task.targets()[0]
    trials = np.array(sorted(rows["trial"].unique()))
    works = [
        middle(steps_to(rows[rows["trial"] == trial], target.metric, target.value)) < math.inf
        for trial in trials
    ]
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
    trials = sorted(rows["trial"].unique()) if rows["trial"].notna().all() else [None]
    if trials == [None]:
        return None, False
    scores = [middle(final(rows[rows["trial"] == trial], task.selection)) for trial in trials]
    # Lanes that stop at the target tie there; among equals the one that got there first wins.
    target = task.targets()[-1]
    speed = [middle(steps_to(rows[rows["trial"] == t], target.metric, target.value)) for t in trials]
    reached = [speed_ if speed_ < math.inf and target.final else math.inf for speed_ in speed]
    index = min(range(len(trials)), key=lambda i: (reached[i], scores[i]))
    return trials[index], len(trials) > 1 and index in (0, len(trials) - 1)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each (task, optimizer), in the order of the frame."""
    if frame.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    groups = frame.groupby(["task", "optimizer"], sort=False, dropna=False)
    return pd.DataFrame([summarise_one(rows) for _, rows in groups])


def summarise_one(rows: pd.DataFrame) -> dict[str, Any]:
    """What one optimizer gave on one task."""
    task = task_of(rows)
    trial, edge = best_trial(rows, task)
    chosen = rows if trial is None else rows[rows["trial"] == trial]
    targets = task.targets()
    main = targets[min(1, len(targets) - 1)]
    decades, open_ended = working_range(rows, task) if trial is not None else (math.nan, False)
    loss_metric = "loss" if task.score == "loss" else "train_loss"
    loss, loss_low, loss_high = median_interval(final(chosen, loss_metric))
    score, score_low, score_high = median_interval(final(chosen, task.score))
    ran = rows[rows["status"].isin([Status.DONE, Status.REACHED, Status.DIVERGED])]
    speed = ran["seconds_per_step"].median() * 1e6 if len(ran) and "seconds_per_step" in ran else math.nan
    state = ran["state_floats_per_parameter"].median() if len(ran) and "seconds_per_step" in ran else math.nan
    return {
        "task": rows["task"].iloc[0],
        "optimizer": rows["optimizer"].iloc[0],
        "trial": trial,
        "trial_at_edge": edge,
        "seeds": len(chosen),
        "loss": loss,
        "loss_low": loss_low,
        "loss_high": loss_high,
        "metric": task.score,
        "score": score,
        "score_low": score_low,
        "score_high": score_high,
        "target": f"{main.metric} {main.value:g}",
        "steps": middle(steps_to(chosen, main.metric, main.value)),
        "decades": decades,
        "decades_open": open_ended,
        "microseconds": speed,
        "state": state,
        "lanes": len(rows),
        "diverged": int((rows["status"] == Status.DIVERGED).sum()),
        "failed": int((~rows["status"].isin([Status.DONE, Status.REACHED, Status.DIVERGED])).sum()),
        "toy": task.toy,
    }


def as_text(table: pd.DataFrame) -> str:
    """The table in at most 100 columns, for a terminal or a log."""
    header = ("task", "optimizer", "best lr", "final loss", "test error", "steps", "decades", "us/step", "st/par", "div")
    lines = [header]
    for row in table.to_dict("records"):
        lines.append(
            (
                row["task"] if not lines or row["task"] != lines[-1][0] else row["task"],
                row["optimizer"],
                "-" if row["trial"] is None else f"{row['trial']:.3g}" + ("*" if row["trial_at_edge"] else ""),
                spread(row["loss"], row["loss_low"], row["loss_high"]),
                percent(row["score"], row["score_low"], row["score_high"]) if row["metric"] != "loss" else "-",
                number(row["steps"]),
                "-" if math.isnan(row["decades"]) else (">=" if row["decades_open"] else "") + f"{row['decades']:.1f}",
                "-" if math.isnan(row["microseconds"]) else f"{row['microseconds']:.3g}",
                "-" if math.isnan(row["state"]) else f"{row['state']:.3g}",
                f"{row['diverged']}/{row['lanes']}" + (f"+{row['failed']}!" if row["failed"] else ""),
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    right = set(range(2, len(header)))
    return "\n".join(
        "  ".join(text.rjust(w) if i in right else text.ljust(w) for i, (text, w) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    )


def spread(middle_: float, low: float, high: float) -> str:
    """`1.2e-08 [1e-09, 3e-08]`, or the value alone where there is no spread."""
    if math.isinf(middle_):
        return "failed"
    if low == high:
        return f"{middle_:.2g}"
    return f"{middle_:.2g} [{low:.1g},{high:.1g}]".replace("inf", "fail")


def percent(middle_: float, low: float, high: float) -> str:
    """A fraction as percent."""
    if math.isinf(middle_):
        return "failed"
    return f"{100 * middle_:.1f}% [{100 * low:.1f},{100 * high:.1f}]"


def number(value: float) -> str:
    """A count, or a dash for never."""
    return "-" if not math.isfinite(value) else f"{value:.0f}"
