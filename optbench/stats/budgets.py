"""The equal-budget certificate: what each optimizer was given to choose with and to run on, and whether that is fair.

What must be equal follows from the question, which is the axis of the ranking:

- on every axis: trials, and seeds of each trial. More trials are more tuning, and tuning is what rankings hang on
  (Sivaprasad et al. 2020, arXiv:1910.11758; Schmidt, Schneider and Hennig 2021, arXiv:2007.01547).
- steps: the horizon. Gradients and seconds of a step differ between methods, and are shown.
- gradients, seconds: the gradient-equivalents or seconds that count, which `outcomes` makes equal by reading everyone
  where the budget of the cheapest ends. Seconds also need one machine and one lane mode: a vectorised lane of one
  method takes a tenth of the time of the same lane alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.costs import RAN, costs_of, gradients_per_step
from optbench.stats.settings import PROBLEM, kept_apart, labels

TOLERANCE = 0.05
"""By how much budgets may differ, as a share of the largest."""


def certificate(frame: Frame) -> Frame:
    """What every optimizer was given on every problem: lanes are counted whole, also those that ended early.

    Where there are stages, trials and seeds are those that chose. An optimizer that declares nothing to search was
    given as many trials as the others: the rest of them would repeat its only one.

    Returns:
        One row for each problem and optimizer: columns of `PROBLEM`, problem, optimizer, trials, seeds (for each
        trial, the least), lanes (cells, all stages), searched (False: it declares nothing to search), steps,
        gradients, seconds (granted to all lanes together), where (lane modes and processors).
    """
    names = labels(frame)
    found = []
    for rows in kept_apart(frame):
        steps = float(rows["steps"].iloc[0])
        costs = {axis: costs_of(rows, axis) for axis in ("steps", "gradients", "seconds")}
        for optimizer, own in rows.groupby("optimizer", sort=False):
            choosing = own[own["stage"] == "tuning"] if "stage" in own else own
            seeds = choosing.groupby("trial", dropna=False)["seed"].nunique()
            found.append({
                **own[list(PROBLEM)].iloc[0].to_dict(), "problem": names.loc[own.index[0]],
                "optimizer": str(optimizer), "trials": len(seeds), "seeds": int(seeds.min()),
                "lanes": len(own), "searched": bool(own["trial"].notna().all()),
                **{axis: len(own) * steps * float(cost.loc[optimizer]) for axis, cost in costs.items()},
                "where": where(own),
                "counted": bool(gradients_per_step(own).notna().any() or not own["status"].isin(RAN).any()),
            })  # fmt: skip
    return pd.DataFrame(found)


def where(rows: Frame) -> str:
    """What seconds depend on besides the method: the lane mode (and under vmap how many lanes), the processor."""
    if "lanes" not in rows:
        return ""
    ways = rows[["mode", "lanes", "cpu_model"]].dropna().drop_duplicates().itertuples(index=False)
    return ", ".join(
        sorted(
            {
                f"{way.mode}{f' of {way.lanes:.0f} lanes' * (way.mode == 'vmap')} on {way.cpu_model}"
                for way in ways
            }
        )
    )


def unequal(certified: Frame, axis: str = "steps") -> Frame:
    """Where a ranking on an axis would compare unequal budgets.

    Args:
        certified: what `certificate` gives.
        axis: what the ranking is made on.

    Returns:
        Columns problem, what (trials, seeds, gradients or where), least, most (their budgets), says (the sentence).
    """
    found = []
    for problem, rows in certified.groupby("problem", sort=False):
        searching = rows[rows["searched"]]
        for what, counted in (("trials", searching), ("seeds", rows)):
            if len(counted) and differ(counted[what].to_numpy(float)):
                low, high = (counted.loc[at] for at in (counted[what].idxmin(), counted[what].idxmax()))
                says = (
                    f"{problem}: {low['optimizer']} got {low[what]} {what}, {high['optimizer']} {high[what]}"
                )
                found.append((problem, what, str(low[what]), str(high[what]), says))
        if axis == "gradients":
            for row in rows[~rows["counted"]].itertuples():
                says = f"{problem}: what a step of {row.optimizer} asks for was not counted, its lanes ended too soon"
                found.append((problem, "gradients", "nan", "nan", says))
        if axis == "seconds" and rows["where"].nunique() > 1:
            ways = rows.drop_duplicates("where")
            told = ", ".join(f"{row.optimizer} by {row.where}" for row in ways.itertuples())
            low, high = ways["where"].iloc[0], ways["where"].iloc[1]
            found.append(
                (problem, "where", low, high, f"{problem}: seconds of lanes run in different ways, {told}")
            )
    return pd.DataFrame(found, columns=["problem", "what", "least", "most", "says"])


def differ(given: np.ndarray) -> bool:
    """Whether the least is more than the tolerance below the largest."""
    return bool(given.min() < (1 - TOLERANCE) * given.max())


def refusal(found: Frame) -> str:
    """Why nobody is ranked, with the numbers and what to do next; nothing where `unequal` found nothing."""
    if found.empty:
        return ""
    said = list(found["says"])
    more = f"; and {len(said) - 3} more" if len(said) > 3 else ""
    way = (
        "Run all with the same --lanes, on one machine"
        if set(found["what"]) == {"where"}
        else "Run what is missing, leave an optimizer out with --opt"
    )
    return (
        f"A ranking needs equal budgets, and these differ by more than {TOLERANCE:.0%}: {'; '.join(said[:3])}{more}. "
        f"{way}, or rank all the same: --allow-unequal"
    )
