"""Where rows come from, and whether they can be right: rows unlike the rest of their table, and runs that show a fault.

Floating point differs between processors and between versions of a package, so a difference of two such rows need not
be one of their optimizers.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from optbench.record import IMPORTED
from optbench.stats import Frame
from optbench.stats.curves import known
from optbench.stats.settings import kept_apart, newest, question_of
from optbench.wording import count, listed

MARK = "†"
"""Behind the name of an optimizer whose rows differ in origin from most of the table."""
PACKAGES = {"jax": "jax", "jaxlib": "jax", "optax": "jax", "torch": "torch"}
"""What may change bits, and in rows of which framework."""


def origins(frame: Frame) -> dict[str, Frame]:
    """What may differ, in words, and its value in each row; '' where it is not known or has no effect."""
    columns = {"processor": "cpu_model", "optbench": "optbench_version"}
    columns |= {package: f"version.{package}" for package in PACKAGES}
    known = [(name, frame[column]) for name, column in columns.items() if column in frame]
    found = {name: values.astype(object).fillna("").astype(str) for name, values in known}
    for name in PACKAGES.keys() & found.keys():
        found[name] = found[name].where(frame["framework"] == PACKAGES[name], "")
    return found


def apart(frame: Frame, indices: list) -> list[str]:
    """For each group of rows, given by its index, how it differs from most rows of the table; '' if it does not.

    Imported rows always say so.
    """
    ways: list[list[str]] = [[] for _ in indices]
    groups = [frame.index.get_indexer(index) for index in indices]
    for name, values in origins(frame).items():
        common, texts = values[values != ""].mode(), values.to_numpy(object)
        for way, group in zip(ways, groups, strict=True):
            other = [each for each in dict.fromkeys(texts[group]) if each not in ("", *common[:1])]
            way += [f"{name} {each}" for each in other]
    if IMPORTED in frame:
        for way, index in zip(ways, indices, strict=True):
            way += [f"imported from {file}" for file in frame.loc[index, IMPORTED].dropna().unique()]
    return [", ".join(way) for way in ways]


def mixed(frame: Frame) -> list[str]:
    """A sentence for each thing in which rows differ that changes bits."""
    lines = []
    if IMPORTED in frame:
        for file, rows in frame.groupby(IMPORTED):
            why = "others ran them, and optbench cannot compute them again."
            lines.append(f"{count(len(rows), 'cell')} were imported from {file}: {why}")
    for name, values in origins(frame).items():
        cells = values[values != ""].value_counts()
        if len(cells) > 1:
            parts = listed([f"{value} ({count(cells[value], 'cell')})" for value in sorted(cells.index)])
            lines.append(f"Rows differ in {name}: {parts}. The same cell can then end in other digits.")
    return lines


def faults(frame: Frame) -> list[str]:
    """Runs that show a fault rather than a method: nothing moved, no number at the start, a rate without effect."""
    lines, frame = [], newest(frame)
    for ran in kept_apart(frame[frame["losses"].map(len) > 0], ["task", "framework", "steps", "optimizer"]):
        who = f"{ran['optimizer'].iloc[0]} on {ran['task'].iloc[0]}"
        if bad := sum(not np.isfinite(losses[0]) for losses in ran["losses"]):
            lines.append(f"{who}: the first loss is not finite in {bad} of {count(len(ran), 'lane')}.")
        values = [seen.values for seen in known(ran, question_of(ran).selection)]
        if still := sum(len(each) > 1 and bool((each == each[0]).all()) for each in values):
            lines.append(f"{who}: nothing moves in {still} of {count(len(ran), 'lane')}, at any step.")
        elif ran["trial"].nunique() > 1:
            rates, bits = defaultdict(set), defaultdict(set)
            for seed, trial, losses in zip(ran["seed"], ran["trial"], ran["losses"], strict=True):
                rates[seed] |= {trial} if trial == trial else set()
                bits[seed].add(np.asarray(losses).tobytes())
            if max(map(len, rates.values())) > 1 and max(map(len, bits.values())) == 1:
                lines.append(f"{who}: every learning rate gives the same losses.")
    return lines
