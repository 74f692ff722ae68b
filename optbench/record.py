"""A row of results: the columns that follow from a cell and its trace, and the question that it answers.

A row carries its question, so statistics and reports read rows only: a target changed later does not judge older rows,
and results of a task that is no longer installed can be shown.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from optbench.cell import DTYPE_BYTES, FORMAT, Cell, Trace
from optbench.fields import digest
from optbench.origin import version_of_numbers
from optbench.task import Target, Task


class Surface(NamedTuple):
    """A polynomial of two numbers, for the picture of paths over it."""

    coefficients: tuple[tuple[float, ...], ...]
    """[i][j] of x^i y^j."""
    start: tuple[float, float]
    minimum: tuple[float, float]

    def height(self, x: Any, y: Any) -> Any:
        """The polynomial at points; arrays broadcast."""
        first, second = np.broadcast_arrays(x, y)
        return np.polynomial.polynomial.polyval2d(first, second, np.array(self.coefficients))


@dataclass(frozen=True, kw_only=True)
class Question:
    """What chooses a trial, what is reported, and what counts as solved."""

    selection: str
    score: str
    targets: tuple[Target, ...]
    optimum: float | None
    ceiling: float
    unit: str
    source: str
    seeded: bool
    toy: bool
    noisy: bool
    """Whether the loss before a step is that of the step's batch; then only evaluations give the loss."""
    horizon: int
    surface: Surface | None = None

    @classmethod
    def of(cls, task: Task) -> Question:
        """The question of a task as it is now."""
        surface = task.surface()
        return cls(
            selection=task.selection,
            score=task.score,
            targets=task.targets(),
            optimum=task.optimum,
            ceiling=task.ceiling,
            unit=task.unit,
            source=task.source,
            seeded=task.seeded,
            toy=task.toy,
            noisy=bool(task.draws(0, 0, 1)),
            horizon=task.horizon,
            surface=None if surface is None else Surface(*surface),
        )

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def read(cls, text: str) -> Question:
        return _read(text)

    @property
    def goals(self) -> tuple[Target, ...]:
        """The targets; one that cannot be reached if the task declares none."""
        return self.targets or (Target(self.selection, -math.inf),)

    @property
    def first(self) -> Target:
        """The easiest target: a setting that reaches it works."""
        return self.goals[0]

    @property
    def main(self) -> Target:
        """The target for counting steps: the second, or the only one."""
        return self.goals[:2][-1]

    @property
    def last(self) -> Target:
        """The hardest target."""
        return self.goals[-1]


@functools.cache
def _read(text: str) -> Question:
    given = json.loads(text)
    surface = given.pop("surface", None)
    targets = tuple(Target(*target) for target in given.pop("targets"))
    return Question(**given, targets=targets, surface=None if surface is None else Surface(*surface))


@functools.lru_cache(maxsize=1000)
def question_text(task: Task) -> str:
    return Question.of(task).text()


def code_of(cell: Cell) -> str:
    """Eight hex digits of the code that affects a cell's numbers, the package's and the user's."""
    modules = (*cell.optimizer.modules(), type(cell.task).__module__)
    spec = cell.spec()
    own = [spec[part].get("code", "") for part in ("optimizer", "task")]
    return digest([version_of_numbers(modules, cell.framework), *own])[:8]


def record(trace: Trace) -> dict[str, Any]:
    """The columns of one row that come from the cell and its trace."""
    cell, facts = trace.cell, dict(trace.facts)
    ran = "program_seconds" in facts
    row = {
        "format": FORMAT,
        "cell": cell.id(),
        "code": code_of(cell),
        "spec": json.dumps(cell.spec(), sort_keys=True),
        **names_of(cell),
        **{f"task.{key}": value for key, value in cell.task.spec().items() if key != "name"},
        **{f"optimizer.{key}": value for key, value in cell.optimizer.spec().items() if key != "name"},
        "question": question_text(cell.task),
        "data_hash": cell.task.data_hash(),
        "status": str(trace.status),
        "reason": trace.reason,
        "steps_run": len(trace.losses),
        "losses": np.asarray(trace.losses),
        "evaluation_steps": np.asarray(trace.evaluation_steps, np.int32),
        **{f"evaluation.{name}": np.asarray(values) for name, values in trace.evaluations.items()},
        "gradients": trace.counts.gradients,
        "hvps": trace.counts.hvps,
        "values": trace.counts.values,
        "gradient_equivalents": trace.counts.gradients + 2 * trace.counts.hvps + trace.counts.values / 3,
    }
    if ran:
        shapes = {name: array.shape for name, array in cell.task.init(0).items()}
        declared = cell.optimizer.state_floats(shapes)
        measured = facts.get("state_bytes", 0) / DTYPE_BYTES[cell.dtype]
        row["state_floats_per_parameter"] = (measured if declared is None else declared) / facts["parameters"]
        row |= throughput(trace, row["gradient_equivalents"])
    return {**row, **facts}


def throughput(trace: Trace, gradients: float) -> dict[str, Any]:
    """Throughput of the program, all lanes together; `gradients` were counted at the last evaluation."""
    task, facts = trace.cell.task, trace.facts
    looked = int(trace.evaluation_steps[-1]) if len(trace.evaluation_steps) else 0
    steps, seconds = facts["program_steps"] * facts["lanes"], facts["program_seconds"]
    per_second = steps / seconds if seconds else math.nan
    flops = task.flops() * (gradients / looked if looked else math.nan) * per_second
    return {
        "seconds_per_step": seconds / steps,
        "steps_per_second": per_second,
        "unit": task.unit,
        "examples_per_second": task.examples() * per_second,
        "flops_per_second": flops,
        "peak_fraction": flops / facts.get("peak_flops_per_second", math.nan),
    }


def typed(spec: Mapping[str, Any], label: str, suite: str = "") -> str:
    """The text that names a task or optimizer of a row on the command line; for a user's own, its origin.

    Something unnamed cannot be typed and keeps its label.
    """
    place = spec.get("origin", "unnamed:")
    if place.startswith("unnamed:"):
        return label
    file, _, name = place.partition(":")
    if file.endswith(".py") and Path(suite).name == file:
        place = f"{suite}:{name}"
    if "target" not in spec:
        return place + label[len(spec["name"]) :]
    bracket = label.partition("[")[2].rstrip("]")
    named = [f"name={spec['called']}"] if "called" in spec else []
    inside = ",".join(filter(None, [bracket, *named]))
    return place.replace("torch.optim:", "torch:") + (f"[{inside}]" if inside else "")


def names_of(cell: Cell) -> dict[str, Any]:
    """The columns by which rows are grouped."""
    swept = cell.optimizer.swept()
    return {
        "task": cell.task.label(),
        "optimizer": cell.optimizer.label(),
        "schedule": cell.schedule.label(),
        "framework": cell.framework,
        "dtype": cell.dtype,
        "precision": cell.precision,
        "seed": cell.seed,
        "twin": cell.twin,
        "steps": cell.steps,
        "trial": getattr(cell.optimizer, swept.name) if swept else None,
        # What the swept field, most often the learning rate, is unless it is set; rows before this column lack it.
        "trial_default": swept.default if swept and isinstance(swept.default, float) else None,
    }
