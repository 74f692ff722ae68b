"""The comparison table: for each task and optimizer, its best learning rate and its results there."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from optbench.cell import FINAL, Status
from optbench.stats import Frame, provenance
from optbench.stats.costs import costs, memory
from optbench.stats.curves import interval_label, median_interval, middle
from optbench.stats.outcomes import at_best, by_trial, outcomes, trying
from optbench.stats.paired import spreads
from optbench.stats.settings import NEEDED, PROBLEM, kept_apart, labels, question_of
from optbench.tuning import BLOCK
from optbench.wording import (
    columns,
    digits_apart,
    interval,
    number,
    shortened_apart,
    spoken,
    terminal_width,
    value,
)

HEADER: tuple[str, ...] = (
    "task", "optimizer", "best lr", "final loss", "test", "steps", "dec", "us", "st/p", "div",
)  # fmt: skip
SPARED = ("st/p", "us", "dec", "div", "steps", "best lr")
"""The columns that a narrow terminal leaves out, the least needed first."""
LABELS = (28, 20, 16, 12)
"""The widths to which labels are cut before a column is left out."""
SCORE = ("metric", "score", "score_low", "score_high")


def working_range(tried: Frame) -> dict[str, Any]:
    """Decades of the longest run of learning rates that reach the task's first target (median seed).

    Takes outcomes of the trials of one optimizer. `decades_low` and `decades_high` count a learning rate if the upper,
    or the lower, end of its median's interval is finite. `decades_open`: the range meets an edge of the grid, so that
    it is at least that wide.
    """
    at, times = tried["trial"].to_numpy(float), tried["works"].to_numpy(float)
    trials = np.unique(at[~np.isnan(at)])
    ends = np.array([median_interval(times[at == trial]) for trial in trials]).reshape(-1, 3)
    found: dict[str, Any] = {"decades_open": False}
    for name, times in zip(("decades", "decades_high", "decades_low"), ends.T, strict=True):
        found[name] = math.nan
        if len(trials) > 1 and (works := times < math.inf).any():
            first, after = longest_run(works)
            found[name] = math.log10(trials[after - 1] / trials[first])
            found["decades_open"] |= name == "decades" and bool(first == 0 or after == len(trials))
    return found


def longest_run(works: np.ndarray) -> tuple[int, int]:
    """The first place of the longest run of True, and the place after it."""
    edges = np.flatnonzero(np.diff([0, *works, 0])).reshape(-1, 2)
    first, after = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    return int(first), int(after)


def rate_range(tried: Frame) -> tuple[float, float]:
    """The least and the largest trial that is not significantly worse than the best, paired by seed."""
    finishes = any(middle(times) < math.inf for times in by_trial(tried, "finish").values())
    metric = "finish" if finishes else "selection"
    table = spreads(tried, metric, of="trial")
    kept = table.index[table["leads"]]
    return (min(kept), max(kept)) if len(kept) else (math.nan, math.nan)


def best_trial(seen: Frame, best: Frame | None = None) -> tuple[Any, bool]:
    """The trial that is reported, from outcomes of one optimizer (`best`: at it), and whether it is at the grid's edge.

    None where there is nothing to search. Random trials, which have seeds of their own, have no edge.
    """
    trial = (at_best(seen) if best is None else best)["trial"].dropna()
    if trial.empty:
        return None, False
    tried = trying(seen)
    trials, grid = sorted(tried["trial"].unique()), tried["seed"].max() < BLOCK
    return trial.iloc[0], bool(grid) and len(trials) > 1 and trial.iloc[0] in (trials[0], trials[-1])


def summarise(frame: Frame, found: Frame | None = None) -> Frame:
    """One row for each (task, setting, optimizer), in the order of the frame; `found`: its outcomes, if known.

    Rows at different settings (schedule, framework, dtype, steps, kind of device) are never averaged.
    """
    if frame.empty:
        return pd.DataFrame(columns=[*PROBLEM, "optimizer"])
    every: Frame = outcomes(frame) if found is None else found
    apart = kept_apart(frame, [*PROBLEM, "optimizer"])
    of = pd.concat([pd.Series(place, rows.index) for place, rows in enumerate(apart)])
    ran = frame.loc[frame["status"].isin(FINAL), [name for name in frame if name in {*PROBLEM, *NEEDED}]]
    # One grouping of each costs less than a selection for each row of the summary.
    parts = [dict(iter(each.groupby(of))) for each in (every, at_best(every), ran)]
    none = [each.iloc[:0] for each in (every, every, ran)]
    table = pd.DataFrame([
        summarise_one(rows, *(part.get(place, empty) for part, empty in zip(parts, none, strict=True)))
        for place, rows in enumerate(apart)
    ])  # fmt: skip
    return table.assign(apart=provenance.apart(frame, [rows.index for rows in apart]))


def summarise_one(rows: Frame, seen: Frame, best: Frame, ran: Frame) -> dict[str, Any]:
    """One row of the summary, from the cells of one optimizer on one problem, their outcomes, and those reported."""
    question = question_of(rows)
    trial, edge = best_trial(seen, best)
    tried = trying(seen)
    swept = tried if trial is not None else tried.iloc[:0]
    low, high = rate_range(swept) if trial is not None else (math.nan, math.nan)
    loss, score = (median_interval(best[name].to_numpy()) for name in ("training", "score"))
    return {
        **{name: rows[name].iloc[0] for name in (*PROBLEM, "optimizer")}, "trial": trial, "trial_at_edge": edge,
        "trial_low": low, "trial_high": high, "trials": tried["trial"].nunique(), "seeds": len(best),
        **dict(zip(("loss", "loss_low", "loss_high"), loss, strict=True)), "metric": question.score,
        **dict(zip(SCORE[1:], score, strict=True)),
        "target": f"{question.main.metric} {number(question.main.value)}", "steps_to_target": middle(best["time"]),
        **working_range(swept), **costs(ran), **memory(ran), "lanes": len(rows),
        "diverged": int((rows["status"] == Status.DIVERGED).sum()),
        "failed": int((~rows["status"].isin(FINAL)).sum()), "toy": question.toy,
    }  # fmt: skip


def texts(row: Mapping[str, Any], digits: int = 3) -> tuple[str, ...]:
    """One printed row, a text for each entry of `HEADER`; `digits` of numbers without an interval."""
    nowhere = pd.isna(row["trial"]) or math.isinf(row["loss"])
    return (
        row["task"],
        row["optimizer"] + provenance.MARK * bool(row["apart"]),
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
    """Every printed row; different losses of one task get enough digits to differ."""
    losses = table["loss"].groupby([table[name].astype(str) for name in PROBLEM])
    digits = losses.transform(digits_apart).astype(int)
    named = table.assign(task=labels(table)).to_dict("records")
    return [texts(row, at) for row, at in zip(named, digits, strict=True)]


def fitting(table: Frame, width: int) -> list[tuple[str, ...]]:
    """Header and rows that fit a width: long labels are cut in their brackets, then columns of `SPARED` are left out.

    Before the last two of these, only the reported metric keeps its interval. In a terminal too narrow for the rest,
    all intervals are left out, and names are cut until the table fits.
    """
    rows, header, lines = all_texts(table), HEADER, [HEADER]
    names = [row[:2] for row in rows]
    gone: set[object] = set() if (table["metric"] != "loss").any() else {"test"}
    for step in (*LABELS, *SPARED[:-2], "reported", *SPARED[-2:], "intervals", *range(LABELS[-1], 3, -1), ""):
        places = [place for place, name in enumerate(HEADER) if name not in gone]
        lines = [tuple(line[place] for place in places) for line in (header, *rows)]
        if max(map(len, columns(lines, gap=" ").splitlines())) <= width:
            break
        if isinstance(step, int):
            last, cut = "intervals" in gone, {}
            for column in zip(*names, strict=True):
                # To cut some below what is not cut gains nothing.
                kept = [len(n) for n in column if not (last or "[" in n)]
                cut |= shortened_apart([n for n in column if last or "[" in n], max([step, *kept]))
            rows = [(*(cut.get(n, n) for n in pair), *row[2:]) for pair, row in zip(names, rows, strict=True)]
        elif step == "reported" and "test" not in gone:
            header = tuple(step if name == "test" else name for name in HEADER)
            rows = [(*row[:3], alone(row[3]), row[3] if row[4] == "-" else row[4], *row[5:]) for row in rows]
        elif step == "intervals":
            rows = [(*row[:3], *map(alone, row[3:])) for row in rows]
        gone.add(step)
    return lines


def alone(text: str) -> str:
    return text.partition(" [")[0]


def as_text(table: Frame, width: int | None = None) -> str:
    """The table for a terminal or a log; default: as wide as the terminal, 80 if unknown."""
    width = width or terminal_width()
    lines = fitting(table, width)
    wide = columns(lines)
    return wide if max(map(len, wide.splitlines())) <= width else columns(lines, gap=" ")


def legend(table: Frame, width: int | None = None) -> str:
    """The meaning of the columns that the table shows at this width."""
    width = width or terminal_width()
    shown = fitting(table, width)[0]
    goals: dict[str, list[str]] = {}
    for task, target in dict.fromkeys(zip(table["task"], table["target"], strict=True)):
        if not target.endswith(" -"):  # a task without targets
            goals.setdefault(spoken(target), []).append(task)
    targets = "; ".join(f"{', '.join(names)}: {target}" for target, names in goals.items())
    meanings = {
        "dec": "width of the working learning-rate range in decades (>=: it reaches the grid's edge)",
        "us": "microseconds per step, one lane, one core",
        "st/p": "state floats per parameter",
        "div": "lanes that diverged (+n!: lanes that failed)",
    }
    spread = f"median [{interval_label(table['seeds'])}] over seeds."
    lines = [
        "best lr: chosen by the median over seeds of the loss, on validation data where there are some; * at the "
        "edge of the grid." * ("best lr" in shown),
        f"loss, test (error in %, or loss): {spread}"
        if "reported" not in shown
        else f"reported: on test data (error in %, or loss), or the final loss where there are none: {spread}",
        f"steps: to the target ({targets})." * ("steps" in shown and bool(targets)),
        " ".join(f"{name}: {meaning}." for name, meaning in meanings.items() if name in shown),
    ]
    unlike = table[table["apart"] != ""]
    marked = [f"{row['optimizer']} on {row['task']}: {row['apart']}" for row in unlike.to_dict("records")]
    lines.append(f"{provenance.MARK}: computed unlike most rows. {'; '.join(marked)}." * bool(marked))
    lines[:2] = [" ".join(filter(None, lines[:2]))]
    return "\n".join(textwrap.fill(line, width) for line in lines if line)
