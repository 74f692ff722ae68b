"""The comparison table: for each task and optimizer, its best learning rate and what it gives there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from optbench.cell import Status
from optbench.record import Question
from optbench.stats import Frame
from optbench.stats.costs import RAN, costs, memory
from optbench.stats.curves import history, median_interval, middle, records
from optbench.stats.settings import PROBLEM, kept_apart

HEADER = ("task", "optimizer", "best lr", "final loss", "test", "steps", "dec", "us", "st/p", "div")
COLUMNS = 100
"""How wide the table may be on a terminal."""


def question_of(rows: Frame) -> Question:
    """The question of the rows of one problem: that of the first, should an edited task have left several."""
    return Question.read(rows["question"].iloc[0])


def final(rows: Frame, metric: str) -> np.ndarray:
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


def target_loss(row: Mapping[Any, Any]) -> float:
    """The value in a row's reason, for frames read without curves."""
    return float(row["reason"].split()[1])


def steps_to(rows: Frame, metric: str, value: float) -> np.ndarray:
    """The first step at which each row's metric is at or below a value; infinite if never.

    A training loss without noise is looked at after each step, everything else at the evaluations.
    """
    found = []
    for row in records(rows, metric):
        steps, values = history(row, metric)
        hits = np.flatnonzero(values <= value)
        found.append(float(steps[hits[0]]) if len(hits) else math.inf)
    return np.array(found)


def working_range(rows: Frame, question: Question) -> tuple[float, bool]:
    """Decades of the longest run of learning rates that reach the task's first target in the median seed.

    Returns (decades, whether the range meets an edge of the grid, so that it is at least that wide).
    """
    target = question.targets[0]
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


def best_trial(rows: Frame, question: Question) -> tuple[Any, bool]:
    """The trial with the least median of the selection metric over seeds, and whether it is at the grid's edge.

    Where winners were run again with fresh seeds, the one that was; random trials have no edge.
    """
    if "stage" in rows:
        reported = rows.loc[rows["stage"] == "report", "trial"].dropna()
        return (reported.iloc[0] if len(reported) else None), False
    if rows["trial"].isna().any():
        return None, False
    groups = dict(list(rows.groupby("trial")))
    trials = list(groups)
    scores = [middle(final(group, question.selection)) for group in groups.values()]
    # Lanes that stop at the target tie there; among equals the one that got there first wins.
    target = question.targets[-1]
    speed = [math.inf] * len(trials)
    if target.final:
        speed = [middle(steps_to(group, target.metric, target.value)) for group in groups.values()]
    index = min(range(len(trials)), key=lambda i: (speed[i], scores[i]))
    return trials[index], len(trials) > 1 and index in (0, len(trials) - 1)


def chosen(rows: Frame, question: Question) -> Frame:
    """The rows of one optimizer at its best trial; of its fresh seeds, where there are stages."""
    if "stage" in rows:
        return rows[rows["stage"] == "report"]
    trial, _ = best_trial(rows, question)
    return rows if trial is None else rows[rows["trial"] == trial]


def trying(rows: Frame) -> Frame:
    """The rows of trials: all, or those that chose, where there are stages."""
    return rows[rows["stage"] == "tuning"] if "stage" in rows else rows


def summarise(frame: Frame) -> Frame:
    """One row for each (task, setting, optimizer), in the order of the frame.

    Rows at different settings (schedule, framework, dtype, steps, kind of device) are never averaged.
    """
    if frame.empty:
        return pd.DataFrame(columns=[*PROBLEM, "optimizer"])
    return pd.DataFrame([summarise_one(rows) for rows in kept_apart(frame, [*PROBLEM, "optimizer"])])


def summarise_one(rows: Frame) -> dict[str, Any]:
    """What one optimizer gave on one task."""
    question = question_of(rows)
    trial, edge = best_trial(rows, question)
    best, tried, ran = chosen(rows, question), trying(rows), rows[rows["status"].isin(RAN)]
    main = question.main
    decades, open_ended = working_range(tried, question) if trial is not None else (math.nan, False)
    loss_metric = "loss" if question.score == "loss" else "train_loss"
    loss, loss_low, loss_high = median_interval(final(best, loss_metric))
    score, score_low, score_high = median_interval(final(best, question.score))
    return {
        **rows[[*PROBLEM, "optimizer"]].iloc[0].to_dict(),
        "trial": trial,
        "trial_at_edge": edge,
        "trials": tried["trial"].nunique(),
        "seeds": len(best),
        "loss": loss,
        "loss_low": loss_low,
        "loss_high": loss_high,
        "metric": question.score,
        "score": score,
        "score_low": score_low,
        "score_high": score_high,
        "target": f"{main.metric} {compact(main.value, 3)}",
        "steps_to_target": middle(steps_to(best, main.metric, main.value)),
        "decades": decades,
        "decades_open": open_ended,
        **costs(ran),
        **memory(ran),
        "lanes": len(rows),
        "diverged": int((rows["status"] == Status.DIVERGED).sum()),
        "failed": int((~rows["status"].isin(RAN)).sum()),
        "toy": question.toy,
    }


def texts(row: Mapping[str, Any], digits: int = 1) -> tuple[str, ...]:
    """One row of the table as it is printed, a text for each entry of `HEADER`; `digits` are those of intervals."""
    return (
        row["task"],
        row["optimizer"],
        "-"
        if pd.isna(row["trial"]) or math.isinf(row["loss"])
        else f"{row['trial']:.3g}" + "*" * bool(row["trial_at_edge"]),
        spread(row["loss"], row["loss_low"], row["loss_high"], digits),
        scored(row, digits),
        number(row["steps_to_target"]),
        "-" if math.isnan(row["decades"]) else ">=" * bool(row["decades_open"]) + f"{row['decades']:.1f}",
        "-" if math.isnan(row["microseconds"]) else compact(row["microseconds"], 3),
        "-" if math.isnan(row["state"]) else compact(row["state"], 3),
        f"{row['diverged']}/{row['lanes']}" + (f"+{row['failed']}!" if row["failed"] else ""),
    )


def scored(row: Mapping[str, Any], digits: int) -> str:
    """The reported metric: an error in percent, a loss as it is; a dash for the loss that stands beside it."""
    numbers = (row["score"], row["score_low"], row["score_high"])
    if row["metric"] == "loss":
        return "-"
    if row["metric"].endswith("error"):
        return percent(*numbers)
    return spread(*numbers, digits)


def as_text(table: Frame) -> str:
    """The table in 100 columns (unless names are very long), for a terminal or a log."""
    lines = [HEADER, *map(texts, table.to_dict("records"))]
    if (table["metric"] == "loss").all():
        lines = [line[:4] + line[5:] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= COLUMNS else " "
    padded = [
        [
            text.ljust(width) if i < 2 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join(gap.join(line).rstrip() for line in padded)


def compact(value: float, digits: int = 2) -> str:
    """`1.2e-8`: a number of few digits without the zeros of an exponent; whole numbers in full up to a million."""
    text = f"{value:.0f}" if 10**digits <= abs(value) < 1e6 else f"{value:.{digits}g}"
    return text.replace("e-0", "e-").replace("e+0", "e")


def outward(value: float, digits: int, up: bool) -> float:
    """A value of few digits that is not above (or, `up`, not below) the given one, so that it still bounds."""
    if not math.isfinite(value) or value == 0:
        return value
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)
    whole = value / unit
    return (math.ceil(whole - 1e-9) if up else math.floor(whole + 1e-9)) * unit


def spread(middle_: float, low: float, high: float, digits: int = 1) -> str:
    """`1.2e-8 [1e-9,3e-8]`, rounded outward, or the value alone where there is no spread."""
    if math.isinf(middle_):
        return "failed"
    if low == high:
        return compact(middle_)
    if low >= 0.1 and high < 100:
        digits = max(digits, 2)  # takes little room here, and says much of a loss such as 2.4
    ends = (compact(outward(low, digits, False), digits), compact(outward(high, digits, True), digits))
    return f"{compact(middle_)} [{','.join(ends)}]".replace("inf", "fail")


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
