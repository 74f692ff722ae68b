"""The one file of the report that knows the catalogue of today: from what is typed to what rows are called, and back.

Everything else reads rows. What is no longer listed is still shown; only how it would be run again is not known.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from optbench import catalogue, optimizers, plan, tasks
from optbench import suite as suites
from optbench.cell import Cell, Schedule
from optbench.fields import UserError
from optbench.optimizer import Optimizer
from optbench.suite import Suite


def label(kind: str, text: str, there: Collection[str]) -> str:
    """The task or optimizer that is meant, as rows name it; what rows have is shown though it can't be made here."""
    if text in there:
        return text
    return (tasks.parse(text) if kind == "task" else optimizers.parse(text)).label()


def optimizer(text: str) -> Optimizer | None:
    """The optimizer of a label; None if it is no longer listed."""
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
    """How the lanes of a cell run unless it is said; '' if its task or optimizer is not listed here."""
    given = dict(spec)
    task, own = given.pop("task"), dict(given.pop("optimizer"))
    found = optimizers.find(own.pop("name"))
    if found is None or "origin" in own or "origin" in task:
        return ""
    try:
        schedule = Schedule(**given.pop("schedule"))
        cell = Cell(catalogue.task_of(task), found.replace(**own), schedule, **given)
    except UserError:
        return ""
    return plan.choose_mode(cell, plan.shapes_of(cell), platform)


def all_of(texts: Sequence[str]) -> list[Optimizer]:
    """The optimizers of labels, but for those that are no longer listed."""
    return [found for found in map(optimizer, texts) if found is not None]


def suite(given: str | Suite) -> Suite:
    """The suite of a name or file."""
    return catalogue.suite(given)


def docstring(given: str | Suite) -> str:
    """What a suite says of itself; a Suite of one's own says nothing."""
    try:
        return "" if isinstance(given, Suite) else suites.docstring(given)
    except OSError:  # of an installed package
        return ""
