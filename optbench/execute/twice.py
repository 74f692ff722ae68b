"""The self-check of a run: a few cells run once more, alone, and must give the same bits.

A wrong number is worse than a crash: memory that flips bits, a library that draws from a clock or a user's optimizer
that keeps state between runs gives numbers that nobody can compute again.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optbench.cell import Cell, Schedule
from optbench.fields import digest
from optbench.plan import Program

ONE_IN = 50
"""Programs, of which one is checked."""
LONG = 60.0
"""CPU seconds, as planned, from which a run has at least one check."""
SHARE = 0.02
"""Of a run's CPU seconds, as planned, that checks may take together."""
LEAST = 10
"""Steps of a check that says anything."""
TRACE_ARRAY_SECONDS = 0.3
"""What tracing a step takes for each array of parameters."""


@dataclass(frozen=True)
class Twice(Program):
    """Cells that run once more, perhaps for fewer steps; their losses are compared and not stored."""

    first: tuple[Cell, ...] = ()
    """The cells as they ran first."""

    @property
    def id(self) -> str:
        """Its own: it goes on from no checkpoint of the first time."""
        return digest([super().id, "twice"])

    @functools.cached_property
    def family(self) -> tuple[str, str]:
        """Its own: should it not fit, nothing follows for the others."""
        return self.id, "twice"

    @functools.cached_property
    def compiling(self) -> float:
        """Of tracing: what the program compiles to is in the cache by then."""
        return TRACE_ARRAY_SECONDS * len(self.shapes) if self.cells[0].framework == "jax" else 0.0

    def halves(self) -> tuple[Program, ...]:
        return ()

    def differing(self, losses: dict[str, Any], again: dict[str, Any]) -> list[Cell]:
        """The cells whose losses, by cell id, did not begin as those of the second run, to the bit."""
        pairs = ((cell, cell.id(), ours.id()) for cell, ours in zip(self.first, self.cells, strict=True))
        known = [(cell, losses[a], again[b]) for cell, a, b in pairs if a in losses and b in again]
        return [cell for cell, one, two in known if one[: len(two)].tobytes() != two.tobytes()]


def checks(programs: Sequence[Program], every: bool = False) -> list[Twice]:
    """What runs twice: one program in fifty, at least one of a long run, within a share of its CPU; or `every` one."""
    if every:
        return [twice(program, program.cells) for program in programs]
    total = sum(program.cost for program in programs)
    wanted, left, made = max(len(programs) // ONE_IN, int(total > LONG)), SHARE * total, []
    draw = random.Random(programs[0].id if programs else "")
    for program in draw.sample(programs, len(programs)):
        cell = draw.choice(program.cells)
        alone = twice(program, (cell,))
        steps = min(cell.steps, math.floor((left - alone.compiling) / alone.stepping * cell.steps))
        # Of a schedule that moves, fewer steps are another one.
        if len(made) < wanted and (steps == cell.steps or (cell.schedule == Schedule() and steps >= LEAST)):
            made.append(twice(program, (cell,), steps))
            left -= made[-1].cost
    return made


def twice(program: Program, cells: tuple[Cell, ...], steps: int | None = None) -> Twice:
    again = tuple(dataclasses.replace(cell, steps=steps or cell.steps) for cell in cells)
    return Twice(again, program.mode, program.device, program.width, program.metrics, first=cells)
