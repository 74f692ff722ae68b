"""The equal-budget certificate: the tuning and running budget of each optimizer, and whether they are equal.

What must be equal depends on the axis of the ranking:

- on every axis: trials, and seeds of each trial, because rankings depend on the tuning budget (Sivaprasad et al. 2020,
  arXiv:1910.11758; Schmidt, Schneider and Hennig 2021, arXiv:2007.01547).
- steps: the horizon. Gradients and seconds of a step differ between methods, and are shown.
- gradients, seconds: `outcomes` makes them equal by comparing all optimizers at the cheapest one's total budget.
  Seconds also need one machine and one lane mode: a vectorised lane takes a tenth of the time of the same lane alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pandas as pd

from optbench.cell import FINAL
from optbench.stats import Frame
from optbench.stats.costs import costs_of, gradients_per_step
from optbench.stats.outcomes import trying
from optbench.stats.settings import PROBLEM, kept_apart, labels
from optbench.wording import listed

TOLERANCE = 0.05
"""The difference between budgets that is allowed, as a share of the largest."""


def certificate(frame: Frame) -> Frame:
    """The budget of every optimizer on every problem; lanes that ended early count in full.

    Where there are stages, trials and seeds are those that chose. An optimizer with nothing to tune runs one trial;
    that counts as the full number. One row for each problem and optimizer: columns of `PROBLEM`, problem, optimizer,
    trials, seeds (of a trial, the least), lanes (cells, all stages), searched (False: it has nothing to tune),
    dimensions (hyperparameters that its trials vary), steps, gradients, seconds (of all lanes together), where (lane
    modes and processors), counted (its gradients were).
    """
    names = labels(frame)
    found = []
    for rows in kept_apart(frame):
        steps, of = float(rows["steps"].iloc[0]), rows["optimizer"]
        lanes = rows.groupby("optimizer", sort=False).size()
        trials = trying(rows).groupby(["optimizer", "trial"], dropna=False)
        seeds = trials["seed"].nunique().groupby("optimizer")
        ran, counted = rows["status"].isin(FINAL), gradients_per_step(rows).notna()
        table = pd.DataFrame({
            **rows[list(PROBLEM)].iloc[0], "problem": names.loc[rows.index[0]], "optimizer": lanes.index,
            "trials": seeds.size(), "seeds": seeds.min(), "lanes": lanes,
            "searched": rows["trial"].notna().groupby(of).all(),
            "dimensions": trials["spec"].first().groupby("optimizer").agg(dimensions),
            **{axis: lanes * steps * costs_of(rows, axis) for axis in ("steps", "gradients", "seconds")},
            "where": where(rows),
            "counted": counted.groupby(of).any() | ~ran.groupby(of).any(),
        }, index=lanes.index)  # fmt: skip
        found.append(table)
    return pd.concat(found, ignore_index=True)


def dimensions(specs: Iterable[str]) -> int:
    """The number of hyperparameters in which cells of one optimizer differ."""
    tried = [json.loads(spec)["optimizer"] for spec in specs]
    names = dict.fromkeys(name for spec in tried for name in spec)
    values = ({str(spec[name]) for spec in tried if spec.get(name) is not None} for name in names)
    return sum(len(each) > 1 for each in values)


def unequal_searches(certified: Frame) -> list[str]:
    """Sentences on problems where equal numbers of trials searched different numbers of hyperparameters."""
    found: dict[str, list[str]] = {}
    searching = certified[certified["searched"] & (certified["trials"] > 1)]
    for problem, rows in searching.groupby("problem", sort=False):
        if rows["dimensions"].nunique() > 1:
            each = [f"{listed(list(names))} {n}" for n, names in rows.groupby("dimensions")["optimizer"]]
            found.setdefault("; ".join(each), []).append(str(problem))
    return [
        f"Equal numbers of trials searched different numbers of hyperparameters on {listed(names)}: {each}."
        for each, names in found.items()
    ]


def where(rows: Frame) -> Frame:
    """The lane modes (with the number of lanes under vmap) and processors, on which seconds depend, a series."""
    names = rows["optimizer"].unique()
    if "lanes" not in rows:
        return pd.Series("", names)
    each = rows[["optimizer", "mode", "lanes", "cpu_model"]].dropna().drop_duplicates()

    def said(row: Any) -> str:
        lanes = f" of {row.lanes:.0f} lanes" if row.mode == "vmap" else ""
        return f"{row.mode}{lanes} on {row.cpu_model}"

    texts = [said(row) for row in each.itertuples()]
    found = pd.Series(texts, each["optimizer"], dtype=object).groupby(level=0)
    return found.agg(lambda texts: ", ".join(sorted({*texts}))).reindex(names, fill_value="")


def unequal(certified: Frame, axis: str = "steps") -> Frame:
    """The unequal budgets behind a ranking on an axis.

    From `certificate`. Columns problem, what (trials, seeds, gradients or where), least, most (their budgets), says.
    """
    found = []
    for problem, rows in certified.groupby("problem", sort=False):
        for what, counted in (("trials", rows[rows["searched"]]), ("seeds", rows)):
            each = counted.sort_values(what).to_dict("records")
            if each and (low := each[0])[what] < (1 - TOLERANCE) * (high := each[-1])[what]:
                says = f"{low['optimizer']} got {low[what]} {what}, {high['optimizer']} {high[what]}"
                found.append((problem, what, str(low[what]), str(high[what]), says))
        if axis == "gradients":
            for name in rows.loc[~rows["counted"], "optimizer"]:
                says = f"the gradients of a step of {name} were not counted, its lanes ended too soon"
                found.append((problem, "gradients", "nan", "nan", says))
        if axis == "seconds" and rows["where"].nunique() > 1:
            modes = rows.drop_duplicates("where")
            each = ", ".join(f"{row.optimizer} by {row.where}" for row in modes.itertuples())
            says = f"lanes ran in different modes, {each}"
            found.append((problem, "where", *modes["where"].iloc[:2], says))
    table = pd.DataFrame(found, columns=["problem", "what", "least", "most", "says"])
    return table.assign(says=table["problem"] + ": " + table["says"])


def refusal(found: Frame) -> str:
    """Why there is no ranking, and what to do; empty where `unequal` is."""
    if found.empty:
        return ""
    says = list(found["says"])
    more = f"; and {len(says) - 3} more" if len(says) > 3 else ""
    fix = "Run what is missing, leave an optimizer out with --opt"
    if set(found["what"]) == {"where"}:
        fix = "Run all with the same --lanes, on one machine"
    return (
        f"A ranking needs equal budgets, and these differ by more than {TOLERANCE:.0%}: {'; '.join(says[:3])}{more}. "
        f"{fix}, or rank them anyway: --allow-unequal"
    )
