"""Settings: rows are averaged or compared only where these are equal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from optbench.cell import PRECISIONS
from optbench.record import Question
from optbench.stats import Frame

SETTING = ("schedule", "framework", "dtype", "precision", "steps", "device_kind")
"""Rows that differ in one of these answer different questions and are kept apart."""
PROBLEM = ("task", *SETTING)
"""A task at one setting: what optimizers are compared on."""

SPOKEN = ("steps", "schedule", "framework", "dtype", "precision", "device_kind")
"""The order in which settings are listed."""

NEEDED = (
    "question", "spec", "trial", "trial_default", "hyperparameters", "stage", "status", "reason", "seed",
    "cell", "optimizer", "losses", "evaluation_steps", "seconds_per_step", "state_floats_per_parameter",
    "gradient_equivalents", "mode", "lanes", "cpu_model", "parameter_bytes", "state_bytes", "program_bytes",
    "worker_peak_bytes", "device_peak_bytes", "program_seconds", "program_cpu_seconds",
)  # fmt: skip


def kept_apart(frame: Frame, by: Sequence[str] = PROBLEM) -> list[Frame]:
    """The rows of each problem (or of each combination of other columns), in the order of the frame.

    With the columns that statistics use: selecting rows of a hundred columns takes a hundred times as long.
    """
    known = {*PROBLEM, *NEEDED}
    columns = [name for name in frame.columns if name in known or str(name).startswith("evaluation.")]
    return [rows for _, rows in modern(newest(frame)[columns]).groupby(list(by), sort=False, dropna=False)]


def modern(frame: Frame) -> Frame:
    """Rows whose precision is a column; older ones have it in the dtype, as `float32 with bfloat16 products`."""
    if "precision" in frame and not frame["dtype"].str.contains(" with ", regex=False).any():
        return frame
    parts = frame["dtype"].str.extract("^([^ ]*)(?: with ([^ ]*) products)?$")
    known = frame["precision"] if "precision" in frame else PRECISIONS[0]
    return frame.assign(dtype=parts[0], precision=parts[1].fillna(known))


def question_of(rows: Frame) -> Question:
    """The question of the rows of one problem: the first one's, should an edited task have left several."""
    return Question.read(rows["question"].iloc[0])


def newest(frame: Frame) -> Frame:
    """One row for each cell and kind of device: the newest, where a cell ran in more than one lane mode.

    With stages, a cell that serves two of them (an untuned one that won), or two optimizers, is one row in each.
    """
    key = ["cell", "device_kind", *(["stage", "optimizer"] if "stage" in frame else [])]
    kept = frame[[*key, "created"]].sort_values("created", kind="stable").drop_duplicates(key, keep="last")
    return frame if len(kept) == len(frame) else frame.loc[frame.index.isin(kept.index)]


def labels(frame: Frame) -> Frame:
    """A label for each row's problem: the task, and the settings in which rows of the task differ."""
    frame = modern(frame)
    problems = frame[list(PROBLEM)].drop_duplicates()
    names = {}
    for task, rows in problems.groupby("task", sort=False):
        differing = [name for name in SETTING if rows[name].nunique(dropna=False) > 1]
        for row in rows.to_dict("records"):
            # Text, because a missing value is not equal to itself.
            key = tuple(str(row[name]) for name in PROBLEM)
            names[key] = f"{task} ({sentence(row, differing)})" if differing else str(task)
    keys = zip(*(map(str, frame[name]) for name in PROBLEM), strict=True)
    return pd.Series([names[key] for key in keys], index=frame.index, dtype=object)


def sentence(row: dict, fields: Sequence[str] = SETTING) -> str:
    """`60 steps, constant schedule, jax, float32, cpu`, or some of its fields."""
    shown = fields != SETTING or row["precision"] != PRECISIONS[0]
    words = {
        **row, "steps": f"{row['steps']:,} steps", "precision": f"{row['precision']} products" * shown,
        "schedule": f"{row['schedule']} schedule" if len(fields) == len(SETTING) else row["schedule"],
    }  # fmt: skip
    return ", ".join(str(words[name]) for name in SPOKEN if name in fields and words[name])
