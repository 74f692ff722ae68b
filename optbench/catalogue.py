"""Turns text, a class or an object into an optimizer, task, suite, schedule or metric.

    kron[b1=0.95]                    what the package lists, or an installed package offers, by name
    mypackage.mymodule:Mine[b1=0.9]  a name in a module
    path/to/mine.py:Mine             a name in a file

An installed package offers things under the entry-point groups `optbench.optimizers`, `optbench.tasks`,
`optbench.suites` and `optbench.metrics`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from optbench.cell import Schedule
from optbench.fields import Named, UserError, from_text, name_and_fields, nearest, split_brackets
from optbench.optimizer import Optimizer
from optbench.target import resolve
from optbench.task import Task

if TYPE_CHECKING:
    from optbench.metrics import Metric
    from optbench.suite import Suite

# Each function imports the rooms that it needs: `optbench list tasks` imports no optimizer.

N = TypeVar("N", bound=Named)

KINDS = ("optimizers", "tasks", "suites", "metrics")


def offered(kind: str) -> dict[str, Any]:
    """The entry points of installed packages for a kind of thing, by name."""
    # Most often there are none, and importlib.metadata takes longer to import than that takes to see.
    files = (path for folder in sys.path for path in Path(folder).glob("*-info/entry_points.txt"))
    if not any(f"[optbench.{kind}]" in path.read_text() for path in files):
        return {}
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=f"optbench.{kind}")}


def target_of(kind: str, name: str) -> str | None:
    """`module:name` of what is meant: as it is, or an entry point's; None for any other name."""
    if ":" in name:
        return name
    if name.endswith(".py"):
        raise UserError(f"{name!r} is a file. Say which of its {kind} is meant: {name}:NAME")
    point = offered(kind).get(name)
    return None if point is None else point.value


def optimizer(thing: Any, called: str = "") -> Optimizer:
    """From text, an Optimizer or its class, an optax transformation, a function that makes one, or a torch.optim class.

    A function of `(params, state, grads, step)` is an optimizer too: see `optbench.optimizers.foreign`.
    """
    from optbench import optimizers
    from optbench.optimizers import foreign

    if not isinstance(thing, str):
        return named(Optimizer, thing) or foreign.of(thing, called)
    base, *wrappers = split_brackets(thing, "+")
    if wrappers:
        from optbench.optimizers.composed import wrapped

        return wrapped(optimizer(base, called), wrappers)
    name, bracket, rest = thing.strip().partition("[")
    known = optimizers.find(name, name_and_fields(thing)[1])
    if known is not None:
        return from_text("optimizer", thing, {name: known})
    target = target_of("optimizers", name)
    if target is None:
        return from_text("optimizer", thing, optimizers.names())
    found = resolve(target)
    own = named(Optimizer, found)
    if own is not None:
        return from_text("optimizer", f"{own.name}{bracket}{rest}", {own.name: own})
    return foreign.parse(f"{target}{bracket}{rest}", found, called=called or ("" if target == name else name))


def thing(text: str) -> Optimizer | Task:
    from optbench import tasks

    name = text.strip().partition("[")[0]
    if ":" in name:
        return task(text) if named(Task, resolve(name)) is not None else optimizer(text)
    return task(text) if name in tasks.names() or name in offered("tasks") else optimizer(text)


def task(thing: Any) -> Task:
    """From text, a Task or its class."""
    from optbench import tasks

    if not isinstance(thing, str):
        own = named(Task, thing)
        if own is None:
            raise UserError(
                f"{thing!r} is not a task. Give a name, a Task or its class; see: optbench list tasks"
            )
        return own
    name, bracket, rest = thing.strip().partition("[")
    known = tasks.names()
    target = None if name in known else target_of("tasks", name)
    if target is None:
        return from_text("task", thing, known)
    own = named(Task, resolve(target))
    if own is None:
        raise UserError(f"{target} is not a Task. Write a class of optbench.Task; see: optbench list tasks")
    return from_text("task", f"{own.name}{bracket}{rest}", {own.name: own})


def task_of(spec: Mapping[str, Any]) -> Task:
    """The listed task that `Task.spec` described, for rows that do not carry their question."""
    from optbench import tasks

    fields = dict(spec)
    name, known = fields.pop("name"), tasks.names()
    if name not in known:
        raise UserError(f"task {name!r} is not known here. {nearest(name, known)}")
    return known[name].replace(**fields)


def suite(thing: Any) -> Suite:
    """From the name of a suite, the path of a file that defines one, or a Suite."""
    from optbench import suite as suites

    if isinstance(thing, suites.Suite):
        return thing
    if not isinstance(thing, str | os.PathLike):
        raise UserError(
            f"{thing!r} is not a suite. Give a name, a file or a Suite; see: optbench list suites"
        )
    name = str(thing)
    here = name in suites.names() or name.endswith(".py")
    target = None if here else target_of("suites", name)
    if target is None:
        return suites.load(name)
    found = resolve(target)
    if not isinstance(found, suites.Suite):
        raise UserError(f"{target} is not a Suite. See: optbench list suites")
    return found


def schedule(thing: Any) -> Schedule:
    """From `shape` or `shape[warmup=0.1,decay=0.2]`, or a Schedule."""
    if isinstance(thing, Schedule):
        return thing
    shape, fields = name_and_fields(str(thing))
    if shape not in Schedule.SHAPES:
        raise UserError(f"--schedule {shape!r} is not known. {nearest(shape, Schedule.SHAPES)}")
    numbers = {}
    for name, value in fields.items():
        if name not in ("warmup", "decay"):
            near = nearest(name, ("warmup", "decay"))
            raise UserError(f"--schedule {thing!r}: {name!r} is not known. {near}")
        try:
            numbers[name] = float(value)
        except ValueError:
            raise UserError(
                f"--schedule {thing!r}: {name}={value!r} is not a number; give a fraction of the steps in [0, 1]."
            ) from None
    return Schedule(shape, **numbers)


def metric(thing: Any) -> Metric:
    """From the name of a metric, `module:function`, or a function of parameters and objective."""
    from optbench import metrics

    if isinstance(thing, metrics.Metric):
        return thing
    if callable(thing):
        return metrics.Metric.of(thing)
    name = str(thing)
    if name in metrics.LISTED:
        return metrics.LISTED[name]
    target = target_of("metrics", name)
    if target is None:
        known = [*metrics.LISTED, *offered("metrics")]
        raise UserError(f"metric {name!r} is not known. {nearest(name, known)} See: optbench list metrics")
    found = resolve(target)
    if not callable(found):
        raise UserError(f"{name} is not a function of parameters and objective.")
    return metrics.Metric.of(found, None if target == name else name)


def named(kind: type[N], thing: Any) -> N | None:
    if isinstance(thing, type) and issubclass(thing, kind):
        try:
            return thing()
        except TypeError as error:
            raise UserError(
                f"{thing.__name__} cannot be made without arguments: {error}. Give its fields defaults."
            ) from error
    if not isinstance(thing, kind):
        return None
    thing.spec()  # which says what is wrong with a class of a user's
    return thing


def listed(kind: str) -> dict[str, Callable[[], Any]]:
    """Every name of a kind, of this package and of installed ones, each with a function that makes the thing."""
    make = {"optimizers": optimizer, "tasks": task, "suites": suite, "metrics": metric}[kind]
    if kind == "suites":
        from optbench import suite as suites

        own: Mapping[str, Any] = dict.fromkeys(suites.names())
    elif kind == "metrics":
        from optbench import metrics

        own = metrics.LISTED
    else:
        own = importlib.import_module(f"optbench.{kind}").names()
    known = {name: (lambda thing=thing: thing) for name, thing in own.items() if thing is not None}
    return {name: known.get(name) or (lambda name=name: make(name)) for name in (*own, *offered(kind))}
