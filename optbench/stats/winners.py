"""Who minimises and who generalises: winners by training loss and by the reported metric, told apart.

That the two differ, and by which learning rate each is chosen, decides many comparisons: Wilson et al. 2017,
arXiv:1705.08292; Choi et al. 2019, arXiv:1910.05446.
"""

from __future__ import annotations

import math

import pandas as pd

from optbench.stats import Frame
from optbench.stats.curves import median_interval
from optbench.stats.outcomes import at_best

COLUMNS = ("problem", "optimizer", "training", "training_low", "training_high", "minimises",
           "score", "score_low", "score_high", "generalises")  # fmt: skip


def winners(found: Frame) -> Frame:
    """For each problem that reports something else than its training loss: who leads on which.

    The training loss is taken at the trial with the least median training loss, the reported metric at the trial that
    validation chose, so that each optimizer is tuned for what it is judged by. With fresh seeds there is only the
    latter. The least median leads, and with it all whose interval overlaps its interval.

    Args:
        found: outcomes of all trials.

    Returns:
        One row for each problem and optimizer: columns of `COLUMNS` (medians with their intervals over seeds, and
        whether the optimizer is among the leaders). Empty where training loss and reported metric are the same.
    """
    parts = []
    for problem, rows in found.groupby("problem", sort=False):
        if (rows["training"] == rows["score"]).all():
            continue
        minimising = at_best(rows.assign(selection=rows["training"], finish=math.inf))
        sides = {"training": spreads(minimising, "training"), "score": spreads(at_best(rows), "score")}
        table = pd.DataFrame({"optimizer": list(rows["optimizer"].unique())})
        for (name, side), word in zip(sides.items(), ("minimises", "generalises"), strict=True):
            ends = [side[optimizer] for optimizer in table["optimizer"]]
            table[[name, f"{name}_low", f"{name}_high"]] = ends
            first = min(ends)[2]
            table[word] = [math.isfinite(center) and low <= first for center, low, _ in ends]
        parts.append(table.assign(problem=problem))
    return (
        pd.concat(parts, ignore_index=True)[list(COLUMNS)] if parts else pd.DataFrame(columns=list(COLUMNS))
    )


def spreads(rows: Frame, column: str) -> dict[str, tuple[float, float, float]]:
    """Median and interval over seeds of each optimizer."""
    groups = rows.groupby("optimizer", sort=False)[column]
    return {str(name): median_interval(group.to_numpy(float)) for name, group in groups}
