"""Stages of a tuned run: which stored rows chose, which report, which were never tuned."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from optbench.optimizer import Optimizer
from optbench.stats import Frame
from optbench.stats.outcomes import at_best, outcomes
from optbench.stats.settings import PROBLEM, modern
from optbench.stats.summary import summarise
from optbench.tuning import BLOCK, CHOOSING, FRESH, Trial, moved, trials

KEYS = [*PROBLEM, "optimizer"]


def staged(frames: Sequence[Frame], optimizers: Sequence[Optimizer], ruleset: str, count: int) -> Frame:
    """The rows that a ruleset made, each optimizer under the name it was asked for, with their `stage`:

    - tuning: a trial, with the seeds that choose
    - report: the trial with the least median of the selection metric, with seeds that chose nothing
    - default: the optimizer as it was asked for, with the same fresh seeds

    Args:
        frames: rows of cells, of which others are left out; a cell that is in two of them counts once.
        optimizers: what was asked for.
        ruleset: grid, random or quasi.
        count: how many trials each got.

    Returns:
        Their columns, with `optimizer` and `trial` as asked, `stage`, and `hyperparameters` (what the trial
        set, in words). A cell that is in two stages is two rows.
    """
    frame = pd.concat(frames, ignore_index=True).drop_duplicates(["cell", "device_kind", "mode"])
    frame = modern(frame)
    made = frame["spec"].map(made_by)
    block = frame["seed"] // BLOCK * BLOCK
    choosing, fresh = block == CHOOSING[ruleset], block == FRESH
    parts = [frame.iloc[:0].assign(stage="", hyperparameters="")]
    for optimizer in optimizers:
        names = moved(optimizer, ruleset)
        tried = {key(trial.at.spec()): trial for trial in trials(optimizer, ruleset, count)}
        plain = {key(optimizer.spec()): Trial(optimizer, getattr(optimizer, names[0]) if names else None)}
        for stage, rows, known in (
            ("tuning", choosing, tried),
            ("report", fresh, tried),
            ("default", fresh, plain),
        ):
            own = frame[rows & made.isin(known)]
            settings = made.loc[own.index].map(known)
            parts.append(
                own.assign(
                    stage=stage,
                    optimizer=optimizer.label(),
                    trial=[trial.place for trial in settings],
                    hyperparameters=[words(trial.at, names) for trial in settings],
                )
            )
    found = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    tasks = {task: i for i, task in enumerate(dict.fromkeys(frame["task"]))}
    found = found.sort_values("task", key=lambda column: column.map(tasks), kind="stable", ignore_index=True)
    return only_winners(found)


def key(spec: Mapping[str, Any]) -> str:
    """An optimizer's plain data as text, as `made_by` gives it."""
    return json.dumps(spec, sort_keys=True)


def made_by(spec: str) -> str:
    """The optimizer's part of a row's spec, as text."""
    return key(json.loads(spec)["optimizer"])


def words(at: Optimizer, names: Sequence[str]) -> str:
    """`learning_rate=0.0674, b1=0.9689`: what a trial sets."""
    return ", ".join(f"{name}={getattr(at, name):g}" for name in names)


def winning(found: Frame) -> dict[tuple[str, ...], float]:
    """The trial that won, for each problem and optimizer, among rows that chose."""
    tuning = found[found["stage"] == "tuning"]
    if tuning.empty:
        return {}
    best = at_best(outcomes(tuning.drop(columns="stage"))).drop_duplicates(KEYS)
    keys = best[KEYS].astype(str).itertuples(index=False, name=None)
    return dict(zip(keys, best["trial"], strict=True))


def only_winners(found: Frame) -> Frame:
    """Without fresh rows of trials that did not win, and of optimizers that were not tuned by this ruleset.

    They are of a run of fewer trials, or of another ruleset.
    """
    best = winning(found)
    keys = list(found[KEYS].astype(str).itertuples(index=False, name=None))
    tried = np.array([each in best for each in keys], bool)
    won = np.array(
        [
            trial == best.get(each) or (pd.isna(trial) and each in best)
            for each, trial in zip(keys, found["trial"], strict=True)
        ],
        bool,
    )
    return found[tried & ((found["stage"] != "report").to_numpy() | won)].reset_index(drop=True)


def with_untuned(table: Frame, found: Frame) -> Frame:
    """A table of `summarise` with a row for each untuned optimizer behind its tuned one."""
    if "stage" not in found:
        return table
    plain = summarise(found[found["stage"] == "default"].drop(columns="stage"))
    plain["optimizer"] += " (untuned)"
    plain["microseconds"] = math.nan  # a few lanes alone take longer each than many side by side
    both = pd.concat([table, plain])
    places = {key: i for i, key in enumerate(table[KEYS].astype(str).itertuples(index=False, name=None))}
    bare = both.assign(optimizer=both["optimizer"].str.removesuffix(" (untuned)"))
    at = [places.get(each, len(places)) for each in bare[KEYS].astype(str).itertuples(index=False, name=None)]
    return both.iloc[sorted(range(len(both)), key=lambda i: (at[i], i))].reset_index(drop=True)


def staged_note(found: Frame) -> str:
    """What was selected on which seeds, and what is reported on which; one sentence."""
    counts = {name: rows["seed"].nunique() for name, rows in found.groupby("stage")}
    trials_ = (
        found[found["stage"] == "tuning"].groupby(KEYS, dropna=False)["trial"].nunique(dropna=False).max()
    )
    return (
        f"Selected among up to {trials_} trials by the median over {counts.get('tuning', 0)} seeds; reported on "
        f"{counts.get('report', 0)} other seeds, which chose nothing. Untuned: every hyperparameter as it was asked "
        "for, on the same other seeds."
    )


def unreported(found: Frame) -> list[tuple[str, str]]:
    """The problems (task) and optimizers whose winner has not run with fresh seeds yet."""
    there = found[found["stage"] == "report"].groupby(["task", "optimizer"]).size()
    asked = found[found["stage"] == "tuning"].groupby(["task", "optimizer"], sort=False).size()
    return [
        (str(task), str(optimizer)) for task, optimizer in asked.index.difference(there.index, sort=False)
    ]
