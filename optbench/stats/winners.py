"""Winners by training loss beside winners by the reported metric.

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
    parts = [pd.DataFrame(columns=list(COLUMNS))]
    for problem, rows in found.groupby("problem", sort=False):
        if (rows["training"] == rows["score"]).all():
            continue
        minimising = at_best(rows.assign(selection=rows["training"], finish=math.inf))
        table = pd.DataFrame({"problem": problem, "optimizer": rows["optimizer"].unique()})
        for name, word, best in (
            ("training", "minimises", minimising),
            ("score", "generalises", at_best(rows)),
        ):
            spreads = best.groupby("optimizer", sort=False)[name].agg(median_interval)
            ends = [name, f"{name}_low", f"{name}_high"]
            table[ends] = spreads.reindex(table["optimizer"]).tolist()
            first = table.sort_values(ends)[ends[2]].iloc[0]
            table[word] = (table[name] < math.inf) & (table[ends[1]] <= first)
        parts.append(table[list(COLUMNS)])
    return pd.concat(parts[1:] or parts, ignore_index=True)
