"""Cells to programs: which cells share a compiled program, in which mode, in how large groups, in what order."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optbench import origin
from optbench.cell import DTYPE_BYTES, Cell
from optbench.engines.lanes import SIDE_BY_SIDE, WIDTH
from optbench.fields import UserError, digest
from optbench.metrics import Metric
from optbench.protocol import Shapes, size
from optbench.task import MEASURED

MODES = {"jax": ("vmap", "map", "loop"), "torch": ("eager", "ensemble", "compiled")}
"""How lanes may run in each framework; engines/jax.py and engines/torch.py describe the modes."""
VECTORISE_BELOW = {"cpu": 1e5}
"""FLOP of one gradient below which lanes side by side beat lanes one after the other (`make bench` measures it)."""
VECTORISE_BELOW_ELSEWHERE = 1e10
"""The same on an accelerator, which one lane of less does not fill; estimated, not measured."""
VECTORISE_ABOVE = 8
"""Parameters of a lane up to which bits under vmap depend on its index among the lanes (engines/jax.py)."""
MEMORY = 2e9
"""Bytes that the lanes of one program may take on a CPU; more lanes are cut into groups."""
SHARE = 0.8
"""Of an accelerator's memory, what the lanes of one program may take."""
ROOMY_FROM = 4e6
"""Bytes of parameters and temporaries of one gradient from which a worker gets an allocator that keeps memory."""
FLOP_A_SECOND = 2.5e10
"""Of a core, in the products of small networks; this and what says nothing else is from reports/grand."""
ARRAY_SECONDS = 1.2e-5
"""What a step takes for each array of parameters beside its arithmetic, lane by lane."""
EAGER_SECONDS, EAGER_ARRAY_SECONDS = 4e-4, 1.5e-4
"""The same in PyTorch, whose every operation costs some microseconds, and for a step at least; from nine small tasks
under sgd and adam, which are foretold within a factor of two to three, but for recurrence (five)."""
EVALUATED = 1.5
"""Steps and evaluations, in times of the steps."""
COMPILE_SECONDS, COMPILE_ARRAY_SECONDS = 1.5, 0.5
"""What compiling a step takes, and for each array of parameters."""
SPREAD_FROM = 20.0
"""Seconds of steps in a part of a program that is worth a compilation of its own on another core."""
UNKNOWN_STATE = 8
"""State floats per parameter that are assumed where an optimizer declares none."""


@dataclass(frozen=True)
class Program:
    """Cells that run as lanes of one compiled program."""

    cells: tuple[Cell, ...]
    mode: str
    device: str = "cpu"
    width: int = WIDTH
    """Lanes in one step, where they run side by side."""
    metrics: tuple[Metric, ...] = ()
    """What is evaluated beside the task's own metrics."""
    pace: float = 0.0
    """Seconds of a step of a lane, where that was measured before; else 0, and it is estimated."""
    narrowed: int = 0
    """The width as planned, where memory ran out at that; else 0."""

    @property
    def id(self) -> str:
        """A name for files: the cells and how they run."""
        how = {"mode": self.mode, "device": self.device, "width": self.width}
        metrics = [metric.key() for metric in self.metrics]
        return digest({**how, "cells": [cell.id() for cell in self.cells], "metrics": metrics})

    @property
    def optimizer(self) -> str:
        """What its optimizer is called: without lane numbers in which its cells differ."""
        labels = {cell.optimizer.label() for cell in self.cells}
        return labels.pop() if len(labels) == 1 else self.cells[0].optimizer.at_defaults().label()

    @property
    def parts(self) -> list[Any]:
        """The classes and functions that a worker needs to make it again."""
        cells = {part for cell in self.cells for part in cell.made_of()}
        return [*cells, *(metric.function for metric in self.metrics)]

    @property
    def unnamed(self) -> bool:
        """Whether a part lives in this process only, and so do its results."""
        return any(part in origin.UNNAMED for part in self.parts)

    @property
    def planned(self) -> int:
        """The width that its rows are found by, since bits depend on it; 0 where lanes do not run side by side."""
        return (self.narrowed or self.width) if self.mode in SIDE_BY_SIDE else 0

    @functools.cached_property
    def family(self) -> tuple[str, str]:
        """Of programs that are compiled once and a lane of which takes the same memory, such as the parts of one."""
        return self.cells[0].compiled_key(), self.mode

    @functools.cached_property
    def shapes(self) -> Shapes:
        return shapes_of(self.cells[0])

    @functools.cached_property
    def cost(self) -> float:
        """CPU seconds, roughly; only how programs are ordered, cut and foretold depends on it."""
        return self.stepping + self.compiling

    @functools.cached_property
    def stepping(self) -> float:
        """Steps and evaluations."""
        cell = self.cells[0]
        if self.pace:
            return len(self.cells) * cell.steps * self.pace * EVALUATED
        step = (cell.task.flops() + cell.optimizer.flops(self.shapes)) / FLOP_A_SECOND
        arrays = ARRAY_SECONDS * len(self.shapes)
        if cell.framework == "torch":
            arrays = EAGER_SECONDS + EAGER_ARRAY_SECONDS * len(self.shapes)
        beside = arrays / (self.width if self.mode in SIDE_BY_SIDE else 1)
        return len(self.cells) * cell.steps * (step + beside) * EVALUATED

    @functools.cached_property
    def compiling(self) -> float:
        if self.cells[0].framework != "jax":
            return 0.0
        return COMPILE_SECONDS + COMPILE_ARRAY_SECONDS * len(self.shapes)

    @property
    def bytes(self) -> int:
        """What its lanes take at a time, roughly: all under `map`, a width side by side, else one lane."""
        at_once = self.width if self.mode in SIDE_BY_SIDE else len(self.cells) if self.mode == "map" else 1
        return at_once * lane_bytes(self.cells[0], self.shapes)

    @functools.cached_property
    def roomy(self) -> bool:
        """Whether its steps make temporaries so large that the usual allocator gives them back every time."""
        cell = self.cells[0]
        floats = size(self.shapes) + cell.task.working_floats()
        return self.device == "cpu" and DTYPE_BYTES[cell.dtype] * floats >= ROOMY_FROM

    def halves(self) -> tuple[Program, ...]:
        """The same cells in programs that take about half the memory; none if a single lane cannot take less."""
        narrow = self.width > 1 and self.mode in SIDE_BY_SIDE
        if len(self.cells) == 1 and not narrow:
            return ()
        width, half = self.width // 2 if narrow else self.width, (len(self.cells) + 1) // 2
        parts = filter(None, (self.cells[:half], self.cells[half:]))
        return tuple(
            dataclasses.replace(self, cells=part, width=width, narrowed=self.planned) for part in parts
        )

    def message(self) -> dict[str, Any]:
        task = self.cells[0].task
        return {"id": self.id, **origin.pack((self, task, MEASURED.get(task)), self.parts)}

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Program:
        """From JSON data; a UserError where the source of a part was edited in between."""
        try:
            program, task, measured = origin.unpack(message)
        except FileNotFoundError as error:
            raise UserError(str(error)) from error
        if measured is not None:
            MEASURED[task] = measured
        if program.id != message["id"]:
            raise UserError("the code was edited while the run was going. Run the same command again.")
        return program


def shapes_of(cell: Cell) -> Shapes:
    return {name: tuple(array.shape) for name, array in cell.task.init(0).items()}


def choose_mode(cell: Cell, shapes: Shapes, device: str) -> str:
    """How the lanes of a cell's program run.

    In PyTorch each lane is a loop of its own. In JAX convolutions must not be inside a compiled loop on CPU;
    small steps run side by side if the optimizer allows it; everything else runs lane after lane, where each
    keeps the bits it has alone. So do functions of a handful of parameters, whose bits side by side would
    depend on the lane's index.
    """
    if cell.framework == "torch":
        return "eager"
    if cell.task.convolves and device == "cpu":
        return "loop"
    below = VECTORISE_BELOW.get(device, VECTORISE_BELOW_ELSEWHERE)
    small = cell.task.flops() <= below and (size(shapes) > VECTORISE_ABOVE or device != "cpu")
    return "vmap" if small and cell.optimizer.vectorizes(shapes) else "map"


def lane_bytes(cell: Cell, shapes: Shapes) -> int:
    """What one lane takes: parameters, gradients, updates, state and activations."""
    floats = size(shapes)
    state = cell.optimizer.state_floats(shapes)
    state = UNKNOWN_STATE * floats if state is None else state
    return DTYPE_BYTES[cell.dtype] * (4 * floats + state + cell.task.working_floats() + 1)


def seconds_of(programs: Sequence[Program]) -> float:
    """CPU seconds that programs take together, roughly: a family is compiled once."""
    compiling = {program.family: program.compiling for program in programs}
    return sum(program.stepping for program in programs) + sum(compiling.values())


def programs(
    cells: Iterable[Cell],
    device: str = "cpu",
    mode: str | None = None,
    jobs: int = 1,
    memory: float | None = None,
    metrics: tuple[Metric, ...] = (),
) -> list[Program]:
    """Each cell in exactly one program; cheap programs first, so that a row shows soon.

    Lanes are spread over the workers: in PyTorch always, since they share no compilation; in JAX where they run one
    after the other for long enough.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.program_key(), []).append(cell)
    made: list[Program] = []
    for group in groups.values():
        shapes = shapes_of(group[0])
        how = mode or choose_mode(group[0], shapes, device)
        fit = max(1, int((MEMORY if memory is None else memory) / lane_bytes(group[0], shapes)))
        width = WIDTH
        if how in SIDE_BY_SIDE:
            # A width depends on the memory and not on the number of lanes: bits depend on it.
            while width > fit:
                width //= 2
            lanes = max(width, fit // width * width)
        else:
            parts = jobs
            if group[0].framework == "jax":
                parts = max(1, min(jobs, int(Program(tuple(group), how, device).stepping / SPREAD_FROM)))
            lanes = min(fit, -(-len(group) // parts))
        made += [
            Program(tuple(group[i : i + lanes]), how, device, width, metrics)
            for i in range(0, len(group), lanes)
        ]
    return sorted(made, key=lambda program: program.cost)
