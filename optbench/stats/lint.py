"""Task lint: does a problem separate the optimizers that were run on it?

After the suite checks of benchmark design in Bartz-Beielstein et al. 2020, arXiv:2007.03488, section 4.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.bootstrap import Table, medians, table
from optbench.stats.paired import ALPHA, differences, log_gaps

FINDINGS = {
    "solved at the start": "the first parameters already meet the main target",
    "solved by none": "no optimizer reaches the main target in its median seed, so times to it say nothing",
    "separates nobody": "no pair of optimizers is distinguishable with these seeds",
    "noise": "seeds differ more than optimizers do",
    "solved by all": "every optimizer reaches the main target: it separates by time, not by whether",
    "": "it separates",
}
"""Findings, the most serious first; the last is that nothing is wrong."""


def lint_problems(rows: Frame) -> Frame:
    """One row for each problem that several optimizers were run on, with its most serious finding.

    Columns problem, finding (a key of `FINDINGS`; '' if none holds), optimizers, reached (number of optimizers whose
    median seed reaches the main target), apart (pairs that differ significantly, paired by seed), pairs, between
    (decades between the optimizers: half their interquartile range), within (likewise between the seeds of one, the
    median over optimizers; nan for a single seed), says (the sentence).
    """
    return pd.DataFrame(
        [
            {"problem": str(problem), **one(group)}
            for problem, group in rows.groupby("problem", sort=False)
            if group["optimizer"].nunique() > 1
        ]
    )


def one(rows: Frame) -> dict[str, float | str]:
    times, values = table(rows, "time"), table(rows, "compared")
    reached = np.isfinite(medians(times)).sum()
    count = len(values.optimizers)
    apart = (differences(rows)["p"] < ALPHA).sum()
    (between, within), seeded = decades_apart(values), bool(values.counts.min() > 1)
    holds = {
        "solved at the start": bool((medians(times) == 0).all()),
        "solved by none": reached == 0,
        "separates nobody": apart == 0,
        "noise": seeded and within > between,
        "solved by all": reached == count,
    }
    finding = next((name for name, true in holds.items() if true), "")
    says = FINDINGS[finding]
    return {
        "finding": finding, "optimizers": count, "reached": int(reached), "apart": int(apart),
        "pairs": math.comb(count, 2), "between": between, "within": within if seeded else math.nan,
        "says": f"{says[0].upper()}{says[1:]}.",
    }  # fmt: skip


def decades_apart(values: Table) -> tuple[float, float]:
    """Half the interquartile range in decades: of the optimizers' medians, and of the seeds of one (median)."""
    middles, counts = medians(values)[:, 0], values.counts[:, 0]
    finite = np.flatnonzero(np.isfinite(middles))
    if not len(finite):
        return math.nan, math.nan
    within = [half_range(values.values[i, 0, : counts[i]], middles[i]) for i in finite]
    return half_range(middles, float(np.median(middles[finite]))), float(np.median(within))


def half_range(numbers: np.ndarray, around: float) -> float:
    """Half the interquartile range of log10(numbers / around); failures lie beyond the largest of them."""
    gaps = log_gaps(numbers, np.full(len(numbers), around))
    low, high = np.quantile(gaps, (0.25, 0.75))
    return float(high - low) / 2
