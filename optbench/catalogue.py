"""From plain data to things: what a cell's spec names, as an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optbench import optimizers, tasks
from optbench.cell import Cell, Schedule
from optbench.fields import UserError, nearest
from optbench.task import Task


def task(spec: Mapping[str, Any]) -> Task:
    """The task that `Task.spec` described."""
    fields = dict(spec)
    name, known = fields.pop("name"), tasks.names()
    if name not in known:
        raise UserError(f"task {name!r} is not known here. {nearest(name, known)}")
    return known[name].replace(**fields)


def cell(spec: Mapping[str, Any]) -> Cell:
    """The cell that `Cell.spec` described."""
    given = dict(spec)
    return Cell(
        task(given.pop("task")),
        optimizers.of(given.pop("optimizer")),
        Schedule(**given.pop("schedule")),
        **given,
    )
