"""Parity of two versions of a method: their distance, compared with the growth of a rounding error."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from optbench.cell import PRECISIONS
from optbench.stats import Frame
from optbench.stats.settings import modern

FACTOR = 10.0
"""The distance that is allowed, over that of runs that differ by roundings only: the frameworks differ in more than
one rounding per step, and the largest of three twins is a rough measure."""
FLOOR = 64
"""Units in the last place of the loss that are always allowed: a loss is itself a rounded sum."""
EPS = {"float32": 2.0**-23, "float64": 2.0**-52, "tensorfloat32": 2.0**-10, "bfloat16": 2.0**-7}
"""By the precision of products, or the dtype where that is the default."""


def parity(frame: Frame) -> Frame:
    """One row for each task and optimizer of a suite with twins, in the order of the frame.

    Distances are of the losses, relative to the largest loss of the trace so far. Over all seeds and learning rates
    `difference` is the largest distance of torch from JAX, `growth` the largest of a twin from its original.
    `worst` is the largest ratio, over steps, of the distance to `FACTOR` times the growth up to that step (with
    a floor of `FLOOR` roundings); `holds` says that it is at most 1 and that every cell ran. `compared` counts pairs.
    """
    keys = [key_of(spec) for spec in frame["spec"]]
    rows = []
    for names, group in frame.assign(pair=keys).groupby(["task", "optimizer"], sort=False):
        found = [pair(members) for _, members in group.groupby("pair", sort=False)]
        ran = [each for each in found if each is not None]
        most = map(max, zip(*ran, strict=True)) if ran else (np.nan, np.nan, np.inf)
        rows.append((*names, *most, len(ran), len(found) - len(ran)))
    columns = ["task", "optimizer", "difference", "growth", "worst", "compared", "missing"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(holds=(table["worst"] <= 1) & (table["missing"] == 0))


def key_of(spec: str) -> str:
    """The spec without framework and twin, which all cells of one comparison share."""
    cell = json.loads(spec)
    return json.dumps({key: value for key, value in cell.items() if key not in ("framework", "twin")})


def pair(members: Frame) -> tuple[float, float, float] | None:
    """Difference, growth and worst ratio of one cell in both frameworks; None if a version did not run."""
    ran = members[members["steps_run"] > 0]
    torch = ran[ran["framework"] == "torch"]
    straight = ran[(ran["framework"] == "jax") & (ran["twin"] == 0)]
    twins = ran[(ran["framework"] == "jax") & (ran["twin"] > 0)]
    if torch.empty or straight.empty or len(twins) < (members["twin"] > 0).sum() or twins.empty:
        return None
    original = np.asarray(straight["losses"].iloc[0], np.float64)
    apart = distance(original, torch["losses"].iloc[0])
    bent = [distance(original, losses) for losses in twins["losses"]]
    steps = min(map(len, [apart, *bent]))
    grown = np.maximum.accumulate(np.max([each[:steps] for each in bent], axis=0))
    allowed = FACTOR * np.maximum(grown, FLOOR / FACTOR * rounding(members))
    return float(apart[:steps].max()), float(grown[-1]), float((apart[:steps] / allowed).max())


def rounding(rows: Frame) -> float:
    """The machine epsilon of the coarsest type in a cell."""
    dtype, precision = modern(rows)[["dtype", "precision"]].iloc[0]
    return EPS[dtype if precision == PRECISIONS[0] else precision]


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The distance of two traces at each step that both have, relative to the largest loss so far."""
    steps = min(len(one), len(other))
    scale = np.maximum.accumulate(np.abs(one[:steps]))
    return np.abs(np.asarray(other, np.float64)[:steps] - one[:steps]) / np.maximum(scale, 1e-300)
