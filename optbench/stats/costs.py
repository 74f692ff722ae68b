"""Costs of a step: seconds, gradients, state and memory."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from optbench.cell import FINAL
from optbench.stats import Frame


def costs(ran: Frame) -> dict[str, float]:
    """Microseconds, state floats per parameter and gradient equivalents of a step; NaN if nothing ran."""
    if ran.empty or "seconds_per_step" not in ran:
        return dict.fromkeys(("microseconds", "state", "gradients_per_step"), math.nan)
    return {
        "microseconds": ran["seconds_per_step"].median() * 1e6,
        "state": ran["state_floats_per_parameter"].median(),
        "gradients_per_step": gradients_per_step(ran).median(),
    }


def memory(ran: Frame) -> dict[str, float]:
    """Megabytes, the maximum over rows; NaN where nothing was counted.

    Of parameters and state, which a lane keeps from step to step; of the compiled program, as XLA counts it; and the
    peak: on a CPU the worker's largest resident memory so far, on an accelerator that of the program on the device.
    """
    on_cpu = ran.empty or ran["device_kind"].iloc[0] == "cpu"
    parts = {
        "lane_megabytes": ["parameter_bytes", "state_bytes"],
        "program_megabytes": ["program_bytes"],
        "peak_megabytes": ["worker_peak_bytes" if on_cpu else "device_peak_bytes"],
    }
    return {
        name: math.nan
        if ran.empty or not set(columns) <= set(ran)
        else float(ran[columns].sum(axis=1, skipna=False).max()) / 1e6
        for name, columns in parts.items()
    }


def gradients_per_step(ran: Frame) -> Frame:
    """Gradient equivalents per step of each row, a series; NaN where nothing was counted."""
    # Counts are taken at evaluations, so they belong to the last of these, not to the step a lane ended at.
    counted = [steps[-1] if np.size(steps) and steps[-1] else math.nan for steps in ran["evaluation_steps"]]
    return ran["gradient_equivalents"] / counted


def costs_of(rows: Frame, axis: str) -> Frame:
    """The cost of a step on an axis (steps, gradients, seconds), a series by optimizer; NaN if nothing ran.

    The median over its lanes on one problem, each amortised over the steps that it ran: an optimizer that does more
    at first, or now and then, costs more over a short horizon than over a long one.
    """
    names = rows["optimizer"]
    ran = rows[rows["status"].isin(FINAL)]
    if axis == "steps" or "seconds_per_step" not in rows or ran.empty:
        return pd.Series(1.0 if axis == "steps" else math.nan, index=names.unique())
    each = ran["seconds_per_step"] if axis == "seconds" else gradients_per_step(ran)
    return each.groupby(ran["optimizer"]).median().reindex(names.unique())
