"""The one file of the report that knows today's catalogue: from what is typed to the labels of rows, and back.

Everything else reads rows. What is no longer in the catalogue is still shown, but without a command that reproduces it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from optbench import catalogue, optimizers, plan, tasks
from optbench import suite as suites
from optbench.cell import Cell, Schedule
from optbench.fields import UserError
from optbench.optimizer import Optimizer
from optbench.record import IMPORTED
from optbench.suite import Suite


def label(kind: str, text: str, stored: Collection[str]) -> str:
    """The label of a task or optimizer in rows; a stored label is kept even if it cannot be made here."""
    if text in stored:
        return text
    return (tasks.parse(text) if kind == "task" else optimizers.parse(text)).label()


def optimizer(text: str) -> Optimizer | None:
    """The optimizer of a label; None if it is no longer listed.

    No run writes a path into a label: a file elsewhere, which rows of a stranger may name, is not imported.
    """
    if "/" in text.partition("[")[0]:
        return None
    try:
        return optimizers.parse(text)
    except UserError:
        return None


def equal_grid(text: str, trials: int) -> set[float]:
    """The learning rates that a suite gives an optimizer; none if it is no longer listed."""
    found = optimizer(text)
    swept = found and found.swept()
    return {getattr(trial, swept.name) for trial in found.trials(trials)} if found and swept else set()


def planned_lanes(spec: dict[str, Any], platform: str) -> str:
    """The default lane mode of a cell; '' if its task or optimizer is not listed here, or its data are elsewhere."""
    given = dict(spec)
    task, own = given.pop("task"), dict(given.pop("optimizer"))
    found = optimizers.find(own.pop("name"))
    if found is None or "origin" in own or "origin" in task:
        return ""
    try:
        schedule = Schedule(**given.pop("schedule"))
        cell = Cell(catalogue.task_of(task), found.replace(**own), schedule, **given)
        return plan.choose_mode(cell, plan.shapes_of(cell), platform)
    except UserError:
        return ""


def all_of(texts: Sequence[str]) -> list[Optimizer]:
    """The optimizers of labels, but for those that are no longer listed."""
    return [found for found in map(optimizer, texts) if found is not None]


def suite(given: str | Suite) -> Suite:
    if given == IMPORTED:  # its tasks are those of the rows; the rest of a suite says what a plain grid is
        return dataclasses.replace(catalogue.suite("quickstart"), name=IMPORTED, tuning="grid", fresh=False)
    return catalogue.suite(given)


def docstring(given: str | Suite) -> str:
    """The docstring of a suite; '' for a Suite object."""
    if given == IMPORTED:
        return "What do imported results say under the same statistics?"
    try:
        return "" if isinstance(given, Suite) else suites.docstring(given)
    except OSError:  # of an installed package
        return ""
