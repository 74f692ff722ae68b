"""Cells to programs: which cells share a compiled program, in which mode, in how large groups, in what order."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optbench import optimizers, tasks
from optbench.core import Cell, Schedule, Shapes, digest

MODES = ("vmap", "map", "loop")
"""The ways lanes run in JAX; in PyTorch each lane is an `eager` loop."""
VECTORISE_BELOW = 1e5
"""FLOP of one gradient below which lanes side by side beat lanes one after the other (`make bench` measures it)."""
VECTORISE_ABOVE = 8
"""Parameters of a lane up to which bits under vmap depend on its place among the lanes (engines/jax.py)."""
MEMORY = 2e9
"""Bytes that the lanes of one program may take; more lanes are cut into groups."""
UNKNOWN_STATE = 8
"""State floats per parameter that are reckoned with where an optimizer cannot say."""


@dataclass(frozen=True)
class Program:
    """Cells that run as lanes of one compiled program."""

    cells: tuple[Cell, ...]
    mode: str
    device: str = "cpu"

    @property
    def id(self) -> str:
        """A name for files: the cells and how they run."""
        return digest({"cells": [cell.id() for cell in self.cells], "mode": self.mode, "device": self.device})

    @functools.cached_property
    def cost(self) -> float:
        """Roughly how many FLOP its steps take; only the order of programs depends on it."""
        cell = self.cells[0]
        step = cell.task.flops() + cell.optimizer.flops(shapes_of(cell))
        return len(self.cells) * cell.steps * (step + 1e3)

    def message(self) -> dict[str, Any]:
        """As JSON data, for a worker."""
        return {"cells": [cell.spec() for cell in self.cells], "mode": self.mode, "device": self.device}

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Program:
        """From JSON data."""
        return cls(tuple(map(cell_of, message["cells"])), message["mode"], message["device"])


def cell_of(spec: Mapping[str, Any]) -> Cell:
    """The cell that `Cell.spec` described."""

    task = dict(spec["task"])
    return Cell(
        tasks.names()[task.pop("name")].replace(**task),
        optimizers.of(spec["optimizer"]),
        Schedule(**spec["schedule"]),
        **{key: spec[key] for key in ("framework", "dtype", "seed", "steps", "twin") if key in spec},
    )


def shapes_of(cell: Cell) -> Shapes:
    """The shapes of the parameters."""
    return {name: tuple(array.shape) for name, array in cell.task.init(0).items()}


def choose_mode(cell: Cell, shapes: Shapes, device: str) -> str:
    """How the lanes of a cell's program run.

    Convolutions must not be inside a compiled loop on CPU; small steps run side by side if the optimizer
    allows it; everything else runs lane after lane, where each keeps the bits it has alone. So do functions
    of a handful of parameters, whose bits side by side would depend on the place.
    """
    if cell.framework == "torch":
        return "eager"
    if cell.task.convolves and device == "cpu":
        return "loop"
    floats = sum(math.prod(shape) for shape in shapes.values())
    small = (cell.task.flops() <= VECTORISE_BELOW and floats > VECTORISE_ABOVE) or device != "cpu"
    return "vmap" if small and cell.optimizer.vectorizes(shapes) else "map"


def lanes_that_fit(cell: Cell, shapes: Shapes) -> int:
    """How many lanes stay within the memory bound: parameters, gradients, updates, state and activations of each."""
    floats = sum(math.prod(shape) for shape in shapes.values())
    size = 8 if cell.dtype == "float64" else 4
    state = cell.optimizer.state_floats(shapes)
    state = UNKNOWN_STATE * floats if state is None else state
    return max(1, int(MEMORY / (size * (4 * floats + state + cell.task.working_floats() + 1))))


def programs(cells: Iterable[Cell], device: str = "cpu", mode: str | None = None) -> list[Program]:
    """Each cell in exactly one program; cheap programs first, so that something shows soon."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.program_key(), []).append(cell)
    made: list[Program] = []
    for group in groups.values():
        shapes = shapes_of(group[0])
        chosen = choose_mode(group[0], shapes, device)
        how = chosen if chosen == "eager" or mode is None else mode
        size = lanes_that_fit(group[0], shapes)
        made += [Program(tuple(group[i : i + size]), how, device) for i in range(0, len(group), size)]
    return sorted(made, key=lambda program: program.cost)
