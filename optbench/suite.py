"""A suite: lists of tasks and optimizers whose product is cells. One Python file per suite, in suites/."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from optbench import origin, tuning
from optbench.cell import DTYPES, PRECISIONS, Cell, Schedule
from optbench.fields import UserError, nearest, shortened
from optbench.metrics import Metric
from optbench.optimizer import Optimizer
from optbench.protocol import FRAMEWORKS
from optbench.task import Task

CONSTANT = Schedule()
Asked = tuple[Task, tuple[Schedule, int], Optimizer]
"""A task, its schedule and number of steps, and an optimizer as the suite has it."""
WIDTHS = ("width", "d_model", "units")
"""What tasks call their width."""
NAME = 100
"""Characters of a name; folders are named by it."""
MOST = {
    "trials": 10_000,
    "seeds": tuning.BLOCK,
    "steps": 2**31 - 1,
    "choosing": tuning.BLOCK,
    "toy_trials": 10_000,
    "dimensions": 1000,
    "batch": 2**31 - 1,
    "width": 2**31 - 1,
}
"""Of each number; the least is 1."""
SEVERAL = ("steps", "batch", "width")
"""Those of which there may be several."""
CHOICES = {"tuning": tuning.RULESETS, "framework": FRAMEWORKS, "dtype": DTYPES, "precision": PRECISIONS}


@dataclass(frozen=True)
class Suite:
    """Tasks x optimizers x learning rates x seeds x schedules x numbers of steps.

    Every optimizer gets the same number of trials, chosen by the ruleset `tuning` (see `optbench.tuning`), anew at each
    schedule and number of steps.
    """

    name: str
    tasks: tuple[Task, ...]
    optimizers: tuple[Optimizer, ...]
    trials: int = 9
    seeds: int = 5
    schedule: Schedule | tuple[Schedule, ...] = CONSTANT
    framework: str = "jax"
    dtype: str = "float32"
    steps: int | tuple[int, ...] | Mapping[str, int | tuple[int, ...]] | None = None
    """None runs each task for its own horizon; a mapping says it of some, by label."""
    precision: str = PRECISIONS[0]
    tuning: str = "grid"
    toy_trials: int | None = None
    """With random and quasi-random trials, those on toys; None takes as many as on other tasks."""
    dimensions: int | None = None
    """With random and quasi-random trials, the most hyperparameters that are searched: the first ones declared."""
    metrics: tuple[Metric, ...] = ()
    """Evaluated in addition to the tasks' own metrics (see `optbench.metrics`)."""
    fresh: bool = False
    """Whether winners run again on fresh seeds; with random and quasi-random trials they always do."""
    choosing: int | None = None
    """Seeds that choose among trials where fresh ones report; None takes as many as report."""
    batch: tuple[int, ...] = ()
    """Each task with a batch also at these sizes in place of its own."""
    width: tuple[int, ...] = ()
    """Each task with a width (`d_model`, `units`) at these in place of its own."""
    axes: Mapping[str, Sequence[Task]] = field(default_factory=dict)
    """Tasks that `--axis` chooses together, by a name."""

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.isprintable() and 0 < len(self.name) <= NAME):
            raise UserError(
                f"a suite's name is 1 to {NAME} printable characters; got {shortened(self.name)}."
            )
        for name, kind in {"tasks": Task, "optimizers": Optimizer, "metrics": Metric}.items():
            given = getattr(self, name)
            if not isinstance(given, list | tuple):
                raise UserError(f"suite {self.name}: {name} must be a tuple, got {shortened(given)}.")
            object.__setattr__(self, name, tuple(given))
            if name != "metrics":
                unique(kind, given)
            elif wrong := [each for each in given if not isinstance(each, kind)]:
                raise UserError(f"suite {self.name}: {shortened(wrong[0])} is not a metric.")
        axes = self.axes.values() if isinstance(self.axes, Mapping) else [None]
        if not all(
            isinstance(axis, list | tuple) and all(isinstance(t, Task) for t in axis) for axis in axes
        ):
            raise UserError(f"suite {self.name}: axes must be tuples of tasks by their names.")
        defaults = {each.name: each.default for each in fields(self)}
        for name, most in MOST.items():
            given = getattr(self, name)
            if given == defaults[name]:
                continue
            each = given.values() if name == "steps" and isinstance(given, Mapping) else [given]
            values = [value for one in each for value in (several(one) or [one])]
            for value in values if name in SEVERAL else [given]:
                if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                    raise UserError(
                        f"suite {self.name}: {name}={shortened(value)} is not a number of {name}; give at least 1."
                    )
                if value > most:
                    raise UserError(
                        f"suite {self.name}: {name} must be at most {most}, got {shortened(value)}."
                    )
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                near = nearest(str(value), allowed)
                raise UserError(f"suite {self.name}: {name}={shortened(value)} is not known. {near}")
        kinds = {type(each) for each in several(self.schedule)}
        if kinds != {Schedule} or not isinstance(self.fresh, bool):
            raise UserError(f"suite {self.name}: schedule must be a Schedule, and fresh True or False.")
        spread = [each for task in self.tasks for each in sized(task, self.batch, self.width)]
        for name, value in {"tasks": tuple(dict.fromkeys(spread)), "batch": (), "width": ()}.items():
            object.__setattr__(self, name, value)  # spread once: a copy of the suite has these tasks

    def axis(self, name: str) -> tuple[Task, ...]:
        """The tasks of an axis; UserError if it has none of that name."""
        if name not in self.axes:
            listed = f"has the axes {', '.join(self.axes)}" if self.axes else "has no axes (scaling has)"
            raise UserError(f"--axis: suite {self.name} {listed}; got {name!r}.")
        return tuple(self.axes[name])

    @property
    def staged(self) -> bool:
        """Whether trials are chosen and reported on different seeds."""
        return self.fresh or self.tuning != "grid"

    def cells(self, learning_rates: Sequence[float] | None = None) -> list[Cell]:
        """The product; a task without randomness runs one seed. Given learning rates replace the equal grid.

        With stages, these are the cells that choose, and the untuned optimizers with the seeds that report.
        """
        count = self.seeds if not self.staged or self.choosing is None else self.choosing
        choosing = [
            self.cell(task, setting, trial.at, seed)
            for task, setting, optimizer in self.asked()
            for trial in self.trials_of(optimizer, learning_rates, task.toy)
            for seed in tuning.seeds(tuning.CHOOSING[self.tuning], count, task.seeded)
        ]
        if not self.staged:
            return choosing
        return [*choosing, *self.reporting({each: each[-1] for each in self.asked()})]

    def asked(self) -> list[Asked]:
        """Everything that has a winner."""
        return [(t, setting, o) for t in self.tasks for setting in self.settings(t) for o in self.optimizers]

    def settings(self, task: Task) -> list[tuple[Schedule, int]]:
        """The schedules and numbers of steps that a task runs at."""
        return [
            (schedule, steps)
            for schedule in several(self.schedule)
            for steps in self.horizons(task.label(), task.horizon)
        ]

    def horizons(self, task: str, own: int) -> tuple[int, ...]:
        """The numbers of steps that a task of this label and horizon runs for."""
        given = self.steps.get(task) if isinstance(self.steps, Mapping) else self.steps
        return several(given) or (own,)

    def reporting(self, winners: Mapping[Asked, Optimizer]) -> list[Cell]:
        """The second stage: for each task, setting and optimizer, the winning trial on fresh seeds."""
        return [
            self.cell(task, setting, best, seed)
            for (task, setting, _), best in winners.items()
            for seed in tuning.seeds(tuning.FRESH, self.seeds, task.seeded)
        ]

    def cell(self, task: Task, setting: tuple[Schedule, int], optimizer: Optimizer, seed: int) -> Cell:
        schedule, steps = setting
        what = (task, optimizer, schedule, self.framework, self.dtype, seed, steps)
        return Cell(*what, precision=self.precision)

    def trials_of(
        self, optimizer: Optimizer, learning_rates: Sequence[float] | None = None, toy: bool = True
    ) -> tuple[tuning.Trial, ...]:
        """The trials of an optimizer on a toy or another task; the first ones are the same."""
        if learning_rates is None:
            more = self.toy_trials if toy and self.tuning != "grid" else None
            return tuning.trials(optimizer, self.tuning, more or self.trials, self.dimensions)
        return tuning.trials_at(optimizer, learning_rates)


def several(value: Any) -> tuple[Any, ...]:
    """One value, some, or (None) nothing, as a tuple."""
    return () if value is None else value if isinstance(value, tuple) else (value,)


def sized(task: Task, batches: Sequence[int], widths: Sequence[int]) -> list[Task]:
    """A task at each batch size and width, as far as it has them."""
    known = {field.name for field in fields(task)}  # pyright: ignore[reportArgumentType]
    axes = [("batch", batches), *((name, widths) for name in WIDTHS)]
    made = [task]
    for name, values in axes:
        if values and name in known:
            made = [each.replace(**{name: value}) for each in made for value in values]
    return made


def folder() -> Path:
    """The folder of the installed suites."""
    found = importlib.util.find_spec("optbench.suites")
    if found is None or not found.submodule_search_locations:
        raise UserError("the suites are not installed. Try: pip install -e . in the checkout of optbench")
    return Path(found.submodule_search_locations[0])


def names() -> list[str]:
    """The installed suites; a name has a hyphen where its file has an underscore."""
    files = (path.stem for path in folder().glob("*.py") if not path.stem.startswith("_"))
    return sorted(stem.replace("_", "-") for stem in files)


def docstring(name: str) -> str:
    """The question, cost and command of a suite, without importing it."""
    path = Path(name) if name.endswith(".py") else folder() / f"{name.replace('-', '_')}.py"
    return ast.get_docstring(ast.parse(importlib.util.decode_source(path.read_bytes()))) or ""


def load(name: str) -> Suite:
    """A suite by name, or from a Python file that defines `suite`."""
    if name.endswith(".py"):
        return from_file(Path(name))
    if name not in names():
        raise UserError(
            f"suite {name!r} is not known. {nearest(name, names())} Or give a file: --suite path/to/suite.py"
        )
    return importlib.import_module(f"optbench.suites.{name.replace('-', '_')}").suite


def from_file(path: Path) -> Suite:
    if not path.is_file():
        raise UserError(
            f"suite file {str(path)!r} is not there. Give its path, or a name: optbench list suites"
        )
    try:
        module = origin.load(path)
    except UserError as error:
        raise UserError(f"suite file {str(path)!r}: {error}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the file may raise anything
        where = origin.line_of(path, error)
        raise UserError(
            f"suite file {str(path)!r} does not import{where}: {type(error).__name__}: {error}. "
            "Fix the file, or use a suite by name: optbench list suites"
        ) from error
    suite = vars(module).get("suite")
    if not isinstance(suite, Suite):
        example = folder() / "quickstart.py"
        raise UserError(f"suite file {str(path)!r} defines no `suite = Suite(...)`. An example: {example}")
    return suite


def unique(wanted: type[Any], things: Sequence[Task] | Sequence[Optimizer]) -> None:
    """Refuse an empty list, another type and duplicates."""
    kind = wanted.kind
    if not things:
        raise UserError(f"no {kind} was given. Name at least one; see: optbench list {kind}s")
    seen: dict[str, Any] = {}
    for thing in things:
        if not isinstance(thing, wanted):
            raise UserError(
                f"{thing!r} is not {'an' if kind[0] in 'aeiou' else 'a'} {kind}. "
                f"Write {kind}({str(thing)!r}) with: from optbench.{kind}s import parse as {kind}"
            )
        label = thing.label()
        if label in seen:
            why = "was given twice. Give each once."
            if seen[label] != thing:
                why = "is the name of two different ones, whose results would mix. Give one another `name`."
            raise UserError(f"{kind} {label} {why}")
        seen[label] = thing
