"""The comparison table: for each task and optimizer, its best learning rate and what it gives there."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

import pandas as pd

from optbench.cell import Status
from optbench.record import Question
from optbench.stats import Frame
from optbench.stats.costs import RAN, costs, memory
from optbench.stats.curves import INTERVAL_FROM, median_interval, middle
from optbench.stats.outcomes import chosen, final, steps_to
from optbench.stats.settings import PROBLEM, kept_apart, question_of
from optbench.wording import columns, digits_apart, interval, number, shortened, spoken, value

HEADER: tuple[str, ...] = (
    "task", "optimizer", "best lr", "final loss", "test", "steps", "dec", "us", "st/p", "div",
)  # fmt: skip
SPARED = ("st/p", "us", "dec", "div", "steps", "best lr")
"""Which columns a narrow terminal does without, the least needed first."""
LABELS = (28, 20, 16, 12)
"""To how many letters labels are cut before a column is left out."""
SCORE = ("metric", "score", "score_low", "score_high")


def working_range(rows: Frame, question: Question) -> tuple[float, bool]:
    """Decades of the longest run of learning rates that reach the task's first target in the median seed.

    Returns (decades, whether the range meets an edge of the grid, so that it is at least that wide).
    """
    target = question.first
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
    """The trial that is reported of one optimizer (`outcomes.at_best`), and whether it is at the grid's edge.

    None where there is nothing to search. Random trials have no edge.
    """
    trial = chosen(rows)["trial"].dropna()
    if trial.empty:
        return None, False
    trials = sorted(rows["trial"].unique())
    return trial.iloc[0], "stage" not in rows and len(trials) > 1 and trial.iloc[0] in (trials[0], trials[-1])


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
    best, tried, ran = chosen(rows), trying(rows), rows[rows["status"].isin(RAN)]
    main = question.main
    decades, open_ended = working_range(tried, question) if trial is not None else (math.nan, False)
    loss_metric = "loss" if question.score == "loss" else "train_loss"
    loss, loss_low, loss_high = median_interval(final(best, loss_metric))
    score, score_low, score_high = median_interval(final(best, question.score))
    return {
        **rows[[*PROBLEM, "optimizer"]].iloc[0].to_dict(), "trial": trial, "trial_at_edge": edge,
        "trials": tried["trial"].nunique(), "seeds": len(best), "loss": loss, "loss_low": loss_low,
        "loss_high": loss_high, "metric": question.score, "score": score, "score_low": score_low,
        "score_high": score_high, "target": f"{main.metric} {number(main.value)}",
        "steps_to_target": middle(steps_to(best, main.metric, main.value)), "decades": decades,
        "decades_open": open_ended, **costs(ran), **memory(ran), "lanes": len(rows),
        "diverged": int((rows["status"] == Status.DIVERGED).sum()),
        "failed": int((~rows["status"].isin(RAN)).sum()), "toy": question.toy,
    }  # fmt: skip


def texts(row: Mapping[str, Any], digits: int = 3) -> tuple[str, ...]:
    """One row of the table as it is printed, a text for each entry of `HEADER`; `digits` of what has no interval."""
    nowhere = pd.isna(row["trial"]) or math.isinf(row["loss"])
    return (
        row["task"],
        row["optimizer"],
        "-" if nowhere else number(row["trial"]) + "*" * bool(row["trial_at_edge"]),
        interval(row["loss"], row["loss_low"], row["loss_high"], digits=digits),
        "-" if row["metric"] == "loss" else value(*(row[name] for name in SCORE), digits=digits),
        f"{row['steps_to_target']:.0f}" if math.isfinite(row["steps_to_target"]) else "-",
        "-" if math.isnan(row["decades"]) else ">=" * bool(row["decades_open"]) + f"{row['decades']:.1f}",
        number(row["microseconds"]),
        number(row["state"]),
        f"{row['diverged']}/{row['lanes']}" + (f"+{row['failed']}!" if row["failed"] else ""),
    )


def all_texts(table: Frame) -> list[tuple[str, ...]]:
    """The same for every row; losses of one task that differ are written differently."""
    losses = table["loss"].groupby([table[name].astype(str) for name in PROBLEM])
    digits = losses.transform(digits_apart).astype(int)
    return [texts(row, at) for row, at in zip(table.to_dict("records"), digits, strict=True)]


def fitting(table: Frame, width: int) -> list[tuple[str, ...]]:
    """Header and rows that fit a width: first long labels are cut in their brackets, then the columns of `SPARED` go.

    Before the last two of these, one interval a row stays: that of what is reported, beside the final loss alone. In a
    terminal too narrow for what is left, the intervals go, and names are cut as far as it takes.
    """
    rows, header, lines = all_texts(table), HEADER, [HEADER]
    gone: set[object] = set() if (table["metric"] != "loss").any() else {"test"}
    for step in (*LABELS, *SPARED[:-2], "reported", *SPARED[-2:], "intervals", *range(LABELS[-1], 3, -1), ""):
        places = [place for place, name in enumerate(HEADER) if name not in gone]
        lines = [tuple(line[place] for place in places) for line in (header, *rows)]
        if max(map(len, columns(lines, gap=" ").splitlines())) <= width:
            break
        if isinstance(step, int):
            last = "intervals" in gone
            rows = [
                (*(shortened(n, step) if last or "[" in n else n for n in row[:2]), *row[2:]) for row in rows
            ]
        elif step == "reported" and "test" not in gone:
            header = tuple(step if name == "test" else name for name in HEADER)
            rows = [(*row[:3], alone(row[3]), row[3] if row[4] == "-" else row[4], *row[5:]) for row in rows]
        elif step == "intervals":
            rows = [(*row[:3], *map(alone, row[3:])) for row in rows]
        gone.add(step)
    return lines


def alone(text: str) -> str:
    """A value without its interval."""
    return text.partition(" [")[0]


def as_text(table: Frame, width: int | None = None) -> str:
    """The table for a terminal or a log, at most so wide; unless said, as wide as the terminal, 80 if unknown."""
    width = width or terminal_width()
    lines = fitting(table, width)
    wide = columns(lines)
    return wide if max(map(len, wide.splitlines())) <= width else columns(lines, gap=" ")


def terminal_width() -> int:
    """How many columns the terminal has."""
    return shutil.get_terminal_size((80, 24)).columns


def legend(table: Frame, width: int | None = None) -> str:
    """What the columns mean that the table shows at this width."""
    width = width or terminal_width()
    shown = fitting(table, width)[0]
    enough = table["seeds"] >= INTERVAL_FROM
    bootstrap = "95% bootstrap interval" + ("" if enough.all() else f", min-max below {INTERVAL_FROM} seeds")
    goals: dict[str, list[str]] = {}
    for task, target in dict.fromkeys(zip(table["task"], table["target"], strict=True)):
        if not target.endswith(" -"):  # a task without targets
            goals.setdefault(spoken(target), []).append(task)
    targets = "; ".join(f"{', '.join(names)}: {target}" for target, names in goals.items())
    meanings = {
        "dec": "decades of lr that reach the first target (>=: meets the grid's edge)",
        "us": "microseconds a step, one lane, one core",
        "st/p": "state floats per parameter",
        "div": "lanes that diverged (+n!: lanes that failed)",
    }
    spread = f"median [{bootstrap if enough.any() else 'min-max'}] over seeds."
    lines = [
        "best lr: chosen by the median over seeds of the loss, on validation data where there are some; * at the "
        "edge of the grid." * ("best lr" in shown),
        f"loss, test (error in %, or loss): {spread}"
        if "reported" not in shown
        else f"reported: on test data (error in %, or loss), or the final loss where there are none: {spread}",
        f"steps: to the target ({targets})." * ("steps" in shown and bool(targets)),
        " ".join(f"{name}: {meaning}." for name, meaning in meanings.items() if name in shown),
    ]
    lines[:2] = [" ".join(filter(None, lines[:2]))]
    return "\n".join(textwrap.fill(line, width) for line in lines if line)
