"""A row of results: the columns that follow from a cell and its trace, and the question that it answers.

A row carries its question, so statistics and reports read rows only: a target changed later does not judge older rows,
and results of a task that is no longer installed can be shown.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from optbench.cell import DTYPE_BYTES, FORMAT, Cell, Status, Trace
from optbench.fields import digest
from optbench.origin import version_of_numbers
from optbench.task import Target, Task

IMPORTED = "imported"
"""The lane mode of a row that was not run here, and the column that names its file."""

SECONDS = "s"
"""The unit of imported rows whose steps are seconds."""


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
        surface, made = task.surface(), ("targets", "noisy", "surface")
        same = {each.name: getattr(task, each.name) for each in fields(cls) if each.name not in made}
        known = None if surface is None else Surface(*surface)
        return cls(**same, targets=task.targets(), noisy=bool(task.draws(0, 0, 1)), surface=known)

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    @functools.cache
    def read(text: str) -> Question:
        given = json.loads(text)
        surface = given.pop("surface", None)
        targets = tuple(Target(*target) for target in given.pop("targets"))
        return Question(**given, targets=targets, surface=None if surface is None else Surface(*surface))

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
        **trace.counts._asdict(),
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

    Something unnamed or imported cannot be typed and keeps its label.
    """
    place = spec.get("origin", "unnamed:")
    if place.startswith(("unnamed:", f"{IMPORTED}:")):
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


KINDS = {
    "text": r"(large_)?string(_view)?|dictionary<values=string.*",
    "whole": r"u?int\d+",
    "number": r"u?int\d+|float|double|halffloat",
    "flag": "bool",
    "list": r"(large_)?list<\w+: (u?int\d+|float|double|null)>",
}
"""What Arrow calls the types of a kind of column. A column that may be empty may also be of type null."""
NEEDED = {
    "text": "cell spec task optimizer schedule framework dtype status reason device_kind mode",
    "whole": "format seed steps steps_run",
    "number": "gradients hvps values gradient_equivalents created",
    "list": "losses evaluation_steps",
}
"""Columns of every row, never empty, by kind."""
OPTIONAL = {
    "text": "question code precision data_hash traceback metrics unit optbench_version commit python platform "
    "cpu_model device platform_version",
    "number": "twin trial trial_default state_floats_per_parameter seconds_per_step steps_per_second peak_fraction "
    "examples_per_second flops_per_second peak_flops_per_second width planned_width lanes parameters parameter_bytes "
    "state_bytes program_bytes worker_peak_bytes device_peak_bytes bytes_per_lane compile_seconds compile_cpu_seconds "
    "program_seconds program_cpu_seconds evaluation_seconds program_steps loop_slowdown threads loss_bits",
    "flag": "roomy",
}
FAMILIES = {"version": "text", "evaluation": "list"}
"""Kinds of the columns `version.*` and `evaluation.*`; those of `task.*` and `optimizer.*` are their authors' own."""
MODERN = ("question", "code", "precision")
"""Columns that older formats lack."""


def _by_name(kinds: Mapping[str, str]) -> dict[str, str]:
    return {name: kind for kind, names in kinds.items() for name in names.split()}


def check_columns(types: Mapping[str, Any], modern: bool) -> None:
    """ValueError if the columns of a file, Arrow types by name, are not those of a record."""
    needed = _by_name(NEEDED) | (dict.fromkeys(MODERN, "text") if modern else {})
    if missing := [name for name in needed if name not in types]:
        raise ValueError(f"no column {missing[0]!r}")
    kinds = _by_name(OPTIONAL) | needed
    for name, type_ in types.items():
        kind = kinds.get(name) or FAMILIES.get(name.partition(".")[0])
        text = str(type_)
        if kind and not re.fullmatch(KINDS[kind], text) and (text != "null" or name in needed):
            raise ValueError(f"column {name!r} is of type {text[:40]}")


def check_rows(table: Any) -> None:
    """ValueError if the values of an Arrow table of records contradict each other or cannot be read."""
    needed = [*_by_name(NEEDED), *(name for name in MODERN if name in table.column_names)]
    if empty := [name for name in needed if table[name].null_count]:
        raise ValueError(f"column {empty[0]!r} has empty places")
    if wrong := [cell for cell in table["cell"].to_pylist() if not re.fullmatch("[0-9a-f]{20}", cell)]:
        raise ValueError(f"{wrong[0][:40]!r} is not the id of a cell")
    if other := set(table["status"].to_pylist()) - set(Status):
        raise ValueError(f"unknown status {min(other)!r}")
    lengths = {name: _lengths(table[name]) for name in table.column_names if name.startswith("evaluation.")}
    steps = _lengths(table["evaluation_steps"])
    if wrong := [name for name, each in lengths.items() if ((each != steps) & (each >= 0)).any()]:
        raise ValueError(f"column {wrong[0]!r} has another length than 'evaluation_steps'")
    if (_lengths(table["losses"]) != table["steps_run"].to_numpy()).any():
        raise ValueError("column 'losses' has another length than 'steps_run' says")
    ended = np.array([Status(text).finished for text in table["status"].to_pylist()], bool)
    questions = table["question"].to_pylist() if "question" in table.column_names else []
    try:
        for text in set(questions):
            question = Question.read(text)
            asked = {question.selection, question.score, *(goal.metric for goal in question.targets)}
            own = ended & np.array([each == text for each in questions], bool)
            for name in asked - {"loss"}:
                if (own & (lengths.get(f"evaluation.{name}", 0 * steps) < 1)).any():
                    raise ValueError(f"finished cells without values of {name!r}")
        for text in table["spec"].to_pylist():
            spec = json.loads(text)
            names = [spec[part]["name"].lower() for part in ("task", "optimizer")]
            if not all(names):
                raise ValueError("a spec without names")
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"a question or spec that cannot be read ({error!r})") from error


def _lengths(column: Any) -> np.ndarray:
    """The length of each list, -1 where there is none."""
    lengths = [chunk.value_lengths().fill_null(-1).to_numpy(False) for chunk in column.chunks]
    return np.concatenate(lengths) if lengths else np.zeros(0, int)
