"""Stages of a tuned run: rows that chose a trial, rows that report the winner, rows of untuned defaults."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from optbench.optimizer import Optimizer
from optbench.record import Question
from optbench.resultfile import KEY
from optbench.stats import Frame
from optbench.stats.outcomes import at_best, outcomes
from optbench.stats.settings import PROBLEM, modern
from optbench.stats.summary import summarise
from optbench.suite import Suite
from optbench.tuning import BLOCK, CHOOSING, FRESH, Trial, moved

KEYS = [*PROBLEM, "optimizer"]


def staged(frames: Sequence[Frame], optimizers: Sequence[Optimizer], suite: Suite) -> Frame:
    """The rows of a tuned run, as `in_stages` has them, without fresh rows of trials that did not win, and of
    optimizers that this ruleset did not tune: they belong to a run with fewer trials, or to another ruleset.
    """
    found = in_stages(frames, optimizers, suite)
    best = winning(found)
    kept = [
        each in best and (stage != "report" or trial == best[each] or pd.isna(trial))
        for each, trial, stage in zip(keys_of(found), found["trial"], found["stage"], strict=True)
    ]
    return found[np.array(kept, bool)].reset_index(drop=True)


def in_stages(frames: Sequence[Frame], optimizers: Sequence[Optimizer], suite: Suite) -> Frame:
    """The rows of trials and defaults, each optimizer under its requested name, with their `stage`:

    - tuning: a trial, on the seeds that choose
    - report: a trial, on fresh seeds; the one with the least median of the selection metric won
    - default: the optimizer as requested, on the same fresh seeds

    Frames may hold rows of other runs; a cell that is in two of them counts once, one that is in two stages twice. Of
    the seeds that choose, those that the suite asks for count.
    Their columns, with `optimizer`, `trial`, `stage`, and `hyperparameters` (`learning_rate=0.0674, b1=0.9689`).
    """
    frame = modern(pd.concat(frames, ignore_index=True).drop_duplicates(list(KEY)))
    made = frame["spec"].map(made_by)
    ruleset, toy = suite.tuning, frame["question"].map(lambda text: Question.read(text).toy).astype(bool)
    block = frame["seed"] // BLOCK * BLOCK
    beyond = (block < FRESH) & (frame["seed"] % BLOCK >= (suite.choosing or BLOCK))
    parts = [frame.iloc[:0].assign(stage="", hyperparameters="")]
    for optimizer in optimizers:
        names = moved(optimizer, ruleset, suite.dimensions)
        tried = {key(trial.at.spec()): trial for trial in suite.trials_of(optimizer)}
        elsewhere = [key(trial.at.spec()) for trial in suite.trials_of(optimizer, toy=False)]
        plain = {key(optimizer.spec()): Trial(optimizer, getattr(optimizer, names[0]) if names else None)}
        for stage, first, known in (
            ("tuning", CHOOSING[ruleset], tried), ("report", FRESH, tried), ("default", FRESH, plain),
        ):  # fmt: skip
            here = (block == first) & ~beyond & made.isin(known) & (toy | made.isin([*elsewhere, *plain]))
            settings = made[here].map(known)
            values = [
                ", ".join(f"{name}={getattr(trial.at, name):g}" for name in names) for trial in settings
            ]
            own = {
                "stage": stage,
                "optimizer": optimizer.label(),
                "trial": [trial.place for trial in settings],
            }
            parts.append(frame[here].assign(**own, hyperparameters=values))
    found = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    places = {name: list(dict.fromkeys(frame[name])) for name in ("task", "schedule", "steps")}
    return found.sort_values(
        [*places], key=lambda column: column.map(places[column.name].index), kind="stable", ignore_index=True
    )


def key(spec: Mapping[str, Any]) -> str:
    return json.dumps(spec, sort_keys=True)


def made_by(spec: str) -> str:
    return key(json.loads(spec)["optimizer"])


def keys_of(rows: Frame) -> list[tuple[str, ...]]:
    """The problem and optimizer of each row, as text: a missing value is not equal to itself."""
    return list(rows[KEYS].astype(str).itertuples(index=False, name=None))


def winning(found: Frame) -> dict[tuple[str, ...], float]:
    """The winning trial of each problem and optimizer."""
    tuning = found[found["stage"] == "tuning"]
    if tuning.empty:
        return {}
    best = at_best(outcomes(tuning.drop(columns="stage"))).drop_duplicates(KEYS)
    return dict(zip(keys_of(best), best["trial"], strict=True))


def with_untuned(table: Frame, found: Frame) -> Frame:
    """A table of `summarise` with a row for each untuned optimizer below its tuned one."""
    if "stage" not in found:
        return table
    plain = summarise(found[found["stage"] == "default"].drop(columns="stage"))
    plain["microseconds"] = math.nan  # a few lanes alone take longer each than many side by side
    keys = [*keys_of(table), *keys_of(plain)]
    order = list(dict.fromkeys(keys))
    both = pd.concat([table, plain.assign(optimizer=plain["optimizer"] + " (untuned)")])
    return both.iloc[np.argsort([*map(order.index, keys)], kind="stable")].reset_index(drop=True)


def staged_note(found: Frame) -> str:
    """Which seeds selected, and which are reported."""
    counts = found.groupby("stage")["seed"].nunique()
    tuning = found[found["stage"] == "tuning"]
    most = tuning.groupby(KEYS, dropna=False)["trial"].nunique(dropna=False).max()
    return (
        f"Selected among up to {most} trials by the median over {counts.get('tuning', 0)} seeds; reported on "
        f"{counts.get('report', 0)} fresh seeds. Untuned: the defaults, on the same fresh seeds."
    )


def unreported(found: Frame) -> list[tuple[str, str]]:
    """The tasks and optimizers whose winner has not run with fresh seeds yet."""
    ran = found.groupby(["task", "optimizer"], sort=False)["stage"].agg(set)
    return [
        (str(task), str(name))
        for (task, name), own in ran.items()
        if own & {"tuning", "report"} == {"tuning"}
    ]
