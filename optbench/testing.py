"""The checks of `optbench vet`, which also run before the first run of a user's own optimizer or task.

from optbench.testing import check_optimizer
def test_mine():
    check_optimizer(Mine())
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from optbench import catalogue, environment, origin
from optbench.cell import DTYPES, Cell, Schedule, Status, Trace
from optbench.execute.worker import ENGINES, reason
from optbench.fields import UserError
from optbench.optimizer import Optimizer
from optbench.optimizers.sgd import SGD
from optbench.protocol import UNWRITTEN, installed
from optbench.task import Target, Task

STEPS = 40
"""Steps of a check; ten times as many for a method that finds its own step size."""
RATES = 5
"""Learning rates of a check, over the optimizer's own range."""


class Finding(NamedTuple):
    """The result of one check."""

    check: str
    holds: bool
    sentence: str


def check_optimizer(optimizer: Any, framework: str | None = None) -> None:
    """Raise an AssertionError with a sentence for each check that an optimizer fails.

    It runs a few steps on a small convex problem, in this process, in every framework it is offered in.
    """
    assert_holds(catalogue.optimizer(optimizer), framework)


def check_task(task: Any, framework: str | None = None) -> None:
    """Raise an AssertionError with a sentence for each check that a task fails."""
    assert_holds(catalogue.task(task), framework)


def assert_holds(thing: Optimizer | Task, framework: str | None) -> None:
    for name in [framework] if framework else offered(thing):
        faults = [finding.sentence for finding in report_of(thing, name)["findings"] if not finding.holds]
        assert not faults, f"{thing.label()} in {name}: " + " ".join(faults)


def check_conformance(optimizer: Any, only: Sequence[str] = (), framework: str | None = None) -> None:
    """Raise an AssertionError with a sentence for each check of `optbench vet --full` that an optimizer fails.

    `only` are groups or checks, such as `use` or `use.pickle`. The checks run in workers.
    """
    from optbench.conformance import findings

    thing = catalogue.optimizer(optimizer)
    frameworks = [framework] if framework else offered(thing)
    found = findings([thing], only, frameworks, len(environment.cores()))
    faults = [f"{key} in {job.framework}: {text}" for job, (key, holds, text) in found if holds is False]
    assert not faults, f"{thing.label()}: " + " ".join(faults)


def offered(thing: Optimizer | Task) -> tuple[str, ...]:
    """The frameworks that it is checked in; UserError if there are none."""
    if here := installed(thing.frameworks()):
        return here
    there = " or ".join(thing.frameworks())
    why = f"it needs {there}, which is not installed." if there else UNWRITTEN[thing.kind]
    raise UserError(f"{thing.kind} {thing.label()} is in no framework; {why}")


# --- an optimizer -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Bowl(Task):
    """Half of sum h (w - a)^2: convex, with a matrix and a vector of parameters; curvatures from 0.5 to 2."""

    name: ClassVar[str] = "bowl_of_checks"

    def init(self, seed: int) -> dict[str, Any]:
        """Not zeros, which would hide an optimizer that scales its parameters."""
        return {"w": np.full((4, 3), 1.5), "b": np.linspace(1.0, 2.0, 4)}

    def data(self) -> dict[str, Any]:
        least = {
            "w_least": np.linspace(-1, 0.5, 12).reshape(4, 3),
            "b_least": np.array([0.5, -0.5, 0.25, -1]),
        }
        return least | {"w_scale": np.linspace(0.5, 2, 12).reshape(4, 3), "b_scale": np.linspace(2, 0.5, 4)}

    def loss(self, params: Any, batch: Any) -> Any:
        parts = [(batch[f"{k}_scale"] * (params[k] - batch[f"{k}_least"]) ** 2).sum() for k in ("w", "b")]
        return 0.5 * (parts[0] + parts[1])

    def flops(self) -> float:
        return 200.0


def judged(check: str, holds: bool, good: str, bad: str) -> Finding:
    return Finding(check, holds, good if holds else bad)


def optimizer_findings(optimizer: Optimizer, framework: str) -> Iterator[Finding]:
    trials = optimizer.trials(RATES)
    steps = STEPS * 10 if optimizer.finds_step or optimizer.swept() is None else STEPS
    if framework == "jax":
        wrong = list(update_findings(optimizer))
        yield from wrong
        if wrong:
            return

    def losses(schedule: str = "constant") -> list[list[float]]:
        cells = [Cell(Bowl(), each, Schedule(schedule), framework, steps=steps) for each in trials]
        return [[loss if math.isfinite(loss) else math.inf for loss in trace.losses] for trace in run(cells)]

    first = losses()
    yield Finding("runs", True, f"It runs {steps} steps at {len(trials)} learning rates.")
    if not any(math.isfinite(each[-1]) for each in first):
        yield descent(first)
        return
    moves = any(len(set(each)) > 1 for each in first)
    yield judged("moves", moves, "Its steps change the parameters.", "Its parameters never change.")
    if not moves:
        return
    yield judged(
        "repeatable",
        first == losses(),
        "Run again, it gives the same bits.",
        "Run again, it gives other numbers: it draws from a random state of Python, NumPy or PyTorch. "
        "Draw from the noise of its setting, or from a key of its own.",
    )
    if optimizer.swept() is not None:
        yield judged(
            "learning rate",
            any(each != first[0] for each in first),
            "The learning rate has an effect.",
            f"The learning rate has no effect: {len(trials)} values of it give the same numbers.",
        )
    yield judged(
        "schedule",
        first != losses("linear"),
        "A schedule has an effect.",
        "A schedule has no effect: a falling learning rate gives the same numbers as a constant one.",
    )
    yield descent(first)


def descent(losses: Sequence[Sequence[float]]) -> Finding:
    ends = [each[-1] / each[0] for each in losses]
    if min(ends) < 0.999:
        return Finding("descends", True, f"The loss falls to {min(ends):.2g} of what it was.")
    least = losses[0]
    if not math.isfinite(least[-1]) or len(least) < 2:
        step = next((t for t, loss in enumerate(least) if not math.isfinite(loss)), len(least))
        said = f"The loss is no number from step {step} on, at the least learning rate too."
    elif ends[0] > 1.0:
        said = "The loss of a convex problem rises at every learning rate. Is the sign of its step right?"
    else:
        said = "The loss of a convex problem does not fall at every learning rate."
    return Finding("descends", False, said)


def update_findings(optimizer: Optimizer) -> Iterator[Finding]:
    """Whether the updates of an optax transformation have the structure, shapes and dtypes of the parameters."""
    from optbench.engines.jax_task import update_facts

    first = Bowl().init(0)
    for name, (shape, dtype) in update_facts(Cell(Bowl(), optimizer, steps=1)).items():
        if not name:
            yield Finding("structure", False, f"Its updates are a tree of another structure: {dtype}.")
        elif shape != (wanted := first[name].shape):
            yield Finding("shapes", False, f"The update of {name} has shape {shape}, the parameter {wanted}.")
        elif dtype != DTYPES[0]:
            yield Finding("dtypes", False, f"The update of {name} is {dtype}, the parameter {DTYPES[0]}.")


def run(cells: Sequence[Cell]) -> list[Trace]:
    """The traces of cells that share a program, each lane with the same bits as alone."""
    framework = cells[0].framework
    traces = ENGINES[framework]("cpu").run(cells, "map" if framework == "jax" else "eager")
    assert all(trace.status is not Status.ERROR for trace in traces)
    return traces


# --- a task -------------------------------------------------------------------------------------------------


def task_findings(task: Task, framework: str, facts: dict[str, Any]) -> Iterator[Finding]:
    """Check by check; fills `facts` with the cost of a gradient."""
    task.data_hash()  # which says what is wrong with data
    first, goals = task.init(0), task.targets()
    if not isinstance(first, Mapping) or not first:
        kind = "an empty dict" if isinstance(first, Mapping) else type(first).__name__
        yield Finding("parameters", False, f"init(seed) gives {kind}, not a dict of arrays.")
        return
    for name, array in first.items():
        dtype = getattr(array, "dtype", None)
        if "float" not in str(dtype):
            kind = type(array).__name__ if dtype is None else f"an array of {dtype}"
            yield Finding("parameters", False, f"init(seed)[{name!r}] is {kind}, not an array of floats.")
            return
    if not all(isinstance(each, Target) for each in goals):
        yield Finding("targets", False, "targets() must give a tuple of optbench.Target.")
        return
    again = task.init(0)
    yield judged(
        "parameters",
        all(np.array_equal(first[name], again[name]) for name in first),
        f"init(seed) gives {len(first)} arrays.",
        "init(0) gives other parameters each time. Draw them from a generator that the seed starts.",
    )
    table, later = task.draws(0, 0, 5), task.draws(0, 3, 5)
    yield judged(
        "draws",
        all(np.array_equal(np.asarray(table[name])[3:5], later[name]) for name in table),
        "What a step draws depends on seed and step.",
        "draws(seed, 3, 5) is not the end of draws(seed, 0, 5): what a step draws must depend on seed and step "
        "alone, or an interrupted run goes on with other batches.",
    )
    facts |= ENGINES[framework]("cpu").tried(task)
    shape, loss = tuple(facts["loss_shape"]), facts["loss"]
    if shape:
        yield Finding("loss", False, f"Its loss has shape {shape}, and must be one number. Take the mean.")
        return
    yield judged(
        "loss",
        math.isfinite(loss),
        f"Its loss at the first parameters is {loss:.3g}.",
        f"Its loss at the first parameters is {loss}.",
    )
    if not any(most > 0 for most in facts["gradient"].values()):
        yield Finding("gradient", False, "Its gradient is 0 or no number at the first parameters.")
        return
    yield Finding("gradient", True, "Its gradient is a number other than 0.")
    there = ", ".join(facts["metrics"])
    for name, shape in facts["metrics"].items():
        if shape:
            said = f"Its metric {name} has shape {tuple(shape)}, and must be one number."
            yield Finding("metrics", False, said)
    wanted = {task.selection, task.score, *(target.metric for target in goals)}
    missing = sorted(wanted - set(facts["metrics"]))
    yield judged(
        "metrics",
        not missing,
        f"It evaluates {there}.",
        f"It evaluates {there}, and not {', '.join(missing)}, by which it is selected, reported or judged.",
    )
    run([Cell(task, SGD(learning_rate=1e-6), steps=2, framework=framework)])
    yield Finding("runs", True, "It runs.")


# --- in a worker --------------------------------------------------------------------------------------------


def report_of(thing: Optimizer | Task, framework: str) -> dict[str, Any]:
    """All `findings` about one thing in one framework, and the `flops` and `floats` of a task's gradient."""
    if framework not in thing.frameworks():
        return {"findings": [Finding("offered", False, f"It is not offered in {framework}.")]}
    facts: dict[str, Any] = {}
    found: list[Finding] = []
    try:
        if isinstance(thing, Task):
            found.extend(task_findings(thing, framework, facts))
        else:
            found.extend(optimizer_findings(thing, framework))
    except Exception as error:  # what it raises is what is found
        modules = (sys.modules.get(kind.__module__) for kind in type(error).__mro__)
        raised = {getattr(module, "__package__", "") for module in modules}
        other, *marks = {"jax": ("torch", "torch"), "torch": ("jax", "jax", "abstract array")}[framework]
        inside = any(mark in f"{raised} {error}" for mark in marks)
        hint = f" It calls functions of {other} on arrays of {framework}." if inside else ""
        found.append(Finding("runs", False, f"{reason(error)}.{hint}"))
    return {"findings": found, "flops": facts.get("flops", 0.0), "floats": facts.get("floats", 0)}


def in_worker(packed: Mapping[str, Any], framework: str) -> dict[str, Any]:
    try:
        return report_of(origin.unpack(packed), framework)
    except (UserError, FileNotFoundError) as error:
        return {"findings": [Finding("imports", False, str(error))]}
