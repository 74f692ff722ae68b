"""What may be asked of a run: the fields of `optbench run`, checked before anything heavy is imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from optbench import optimizers, plan, tasks
from optbench import suite as suites
from optbench.core import DTYPES, FRAMEWORKS, Cell, Schedule, UserError, nearest
from optbench.fields import split_brackets

DEVICES = ("auto", "cpu", "gpu", "tpu")


@dataclass(frozen=True)
class Request:
    """What to run; the fields are those of `optbench run`, None meaning what the suite says."""

    suite: str = "quickstart"
    """A suite's name (see `optbench list suites`), or a Python file that defines one."""
    opt: tuple[str, ...] | None = None
    """Optimizers: kron,adam or 'kron[b1=0.95]' (with quotes: brackets mean something to a shell)."""
    task: tuple[str, ...] | None = None
    """Tasks in place of the suite's: mlp or 'quadratic[dim=50,condition=1e3]'."""
    lr: tuple[str, ...] | None = None
    """Learning rates in place of the equal grid: 0.1,0.01"""
    schedule: str | None = None
    """Of the learning rate: constant, cosine, wsd or linear, or 'cosine[warmup=0.1]'."""
    framework: str | None = None
    """jax or torch."""
    dtype: str | None = None
    """float32 or float64."""
    seeds: int | None = None
    """How many seeds, from 0."""
    steps: int | None = None
    """Steps of every task, in place of its own horizon."""
    device: str = "auto"
    """auto, cpu, gpu or tpu."""
    jobs: int | None = None
    """Worker processes, one core each; all cores unless said."""
    results: str = "results"
    """The folder that results are kept in."""
    again: bool = False
    """Compute what is stored once more."""
    timeout: float = 600.0
    """Seconds without a sign of life after which a program is ended."""
    lanes: str | None = None
    """How lanes run (vmap, map or loop) in place of the plan's choice."""

    def cells(self) -> list[Cell]:
        """The suite's product with everything that was asked for put in its place; UserError if it cannot be."""
        suite = suites.load(self.suite)
        for name, value in (("seeds", self.seeds), ("steps", self.steps), ("jobs", self.jobs)):
            if value is not None and value < 1:
                raise UserError(f"--{name} {value} is not a number of {name}; give at least 1.")
        if not self.timeout > 0:
            raise UserError(f"--timeout {self.timeout:g} is not a time; give seconds above 0.")
        check_choice("framework", self.framework, FRAMEWORKS)
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("device", self.device, DEVICES)
        check_choice("lanes", self.lanes, plan.MODES)
        changes: dict[str, Any] = {
            "optimizers": parsed("optimizer", self.opt, optimizers.parse),
            "tasks": parsed("task", self.task, tasks.parse),
            "schedule": parse_schedule(self.schedule) if self.schedule else None,
            "framework": self.framework,
            "dtype": self.dtype,
            "seeds": self.seeds,
            "steps": self.steps,
        }
        suite = dataclasses.replace(suite, **{k: v for k, v in changes.items() if v is not None})
        suites.unique("task", suite.tasks)
        suites.unique("optimizer", suite.optimizers)
        for optimizer in suite.optimizers:
            if suite.framework not in optimizer.frameworks():
                raise UserError(
                    f"optimizer {optimizer.name} is not offered in {suite.framework}; "
                    f"it is in {', '.join(optimizer.frameworks())}."
                )
        return suite.cells(None if self.lr is None else learning_rates(self.lr))


def check_choice(name: str, value: str | None, allowed: Sequence[str]) -> None:
    """Refuse what is not among the allowed."""
    if value is not None and value not in allowed:
        raise UserError(f"--{name} {value!r} is not known. {nearest(value, allowed)}")


def parsed(kind: str, texts: Sequence[str] | None, parse: Callable[[str], Any]) -> tuple[Any, ...] | None:
    """The things named on the command line, commas outside brackets separating them."""
    if texts is None:
        return None
    parts = [part for text in texts for part in split_brackets(text)]
    if not any(parts):
        raise UserError(f"no {kind} was given. Name at least one; see: optbench list {kind}s")
    return tuple(parse(part) for part in parts if part)


def learning_rates(texts: Sequence[str]) -> list[float]:
    """The numbers of `--lr`."""
    parts = [part.strip() for text in texts for part in text.split(",")]
    if not any(parts):
        raise UserError("--lr was given no learning rate. Write --lr 0.1,0.01")
    rates = []
    for part in parts:
        try:
            rate = float(part)
        except ValueError:
            rate = float("nan")
        if not 0 < rate < float("inf"):
            raise UserError(f"--lr {part!r} is not a learning rate; give numbers above 0, such as --lr 0.1,0.01")
        if rate in rates:
            raise UserError(f"--lr names {part} twice. Give each learning rate once.")
        rates.append(rate)
    return rates


def parse_schedule(text: str) -> Schedule:
    """A schedule from `shape` or `shape[warmup=0.1,decay=0.2]`."""
    shape, _, rest = text.partition("[")
    numbers = {}
    for part in filter(None, rest.removesuffix("]").split(",")):
        name, _, value = part.partition("=")
        if name not in ("warmup", "decay"):
            raise UserError(f"--schedule {text!r}: {name!r} is not known. {nearest(name, ('warmup', 'decay'))}")
        try:
            numbers[name] = float(value)
        except ValueError:
            raise UserError(f"--schedule {text!r}: {name}={value!r} is not a number.") from None
    return Schedule(shape, **numbers)
