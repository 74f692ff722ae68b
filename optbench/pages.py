"""What `optbench list` and `optbench show` print; nothing heavy is imported, and no catalogue that is not asked for."""

from __future__ import annotations

import dataclasses
import inspect
import math
import textwrap

from optbench.fields import UserError, nearest
from optbench.optimizer import Optimizer
from optbench.task import Task
from optbench.wording import columns

EXAMPLE = {"w": (256, 128), "b": (256,)}
"""The layer that state sizes are quoted for."""


WIDTH = 140
"""Letters of a line of a page; what a field means is wrapped below itself."""


def listing(what: str) -> str:
    """The names with what one wants to know at a glance."""
    from optbench import catalogue

    things = catalogue.listed(what)
    if what == "suites":
        rows = [("suite", "question"), *((name, question(name)) for name in things)]
    elif what == "metrics":
        rows = [("metric", "what"), *((name, first_line(make().function)) for name, make in things.items())]
    elif what == "tasks":
        rows = [("task", "parameters", "steps", "selected by", "source")]
        for name, make in things.items():
            task = make()
            rows.append((name, parameters(task), str(task.horizon), task.selection, fitted(task.source, 50)))
    else:
        rows = [("optimizer", "frameworks", "order", "state/param", "source")]
        for name, make in sorted(things.items()):
            o = make()
            row = (name, ",".join(o.frameworks()), "12"[o.order - 1], state_ratio(o), fitted(o.source, 47))
            rows.append(row)
    return columns(rows, left=len(rows[0]))


def question(name: str) -> str:
    """The first line of a suite's docstring."""
    from optbench import catalogue, suite

    if name in suite.names():
        return suite.docstring(name).partition("\n")[0]
    return f"of an installed package: {catalogue.offered('suites')[name].value}"


def first_line(thing: object) -> str:
    """Of its docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def fitted(text: str, width: int) -> str:
    """The text, cut after a whole word where it is longer than the line has room for."""
    return textwrap.shorten(text, width, placeholder=" ...")


def state_ratio(optimizer: Optimizer) -> str:
    """State floats per parameter on the example layer; '?' where only a run can tell."""
    floats = optimizer.state_floats(EXAMPLE)
    return "?" if floats is None else f"{floats / sum(math.prod(shape) for shape in EXAMPLE.values()):.2f}"


def parameters(task: Task) -> str:
    """The number of parameters, where it follows from the fields alone."""
    dim = getattr(task, "dim", None)
    return "-" if dim is None else str(dim)


def page(name: str) -> str:
    """The page of an optimizer, task or suite."""
    from optbench import optimizers

    if name in optimizers.listed():
        return optimizer_page(optimizers.listed()[name])
    from optbench import suite, tasks

    problems, questions = tasks.names(), suite.names()
    if name in problems:
        return task_page(name, problems[name])
    if name in questions:
        return f"{name}\n\n{suite.docstring(name)}"
    from optbench import catalogue

    kinds = ("optimizers", "tasks", "suites", "metrics")
    known = {each: kind for kind in kinds for each in catalogue.listed(kind)}
    kind = known.get(name.partition("[")[0])
    if kind in ("suites", "metrics"):
        thing = catalogue.listed(kind)[name]()
        return f"{name}\n\n{inspect.getdoc(getattr(thing, 'function', thing)) or ''}"
    if kind is None and ":" not in name:
        near = nearest(name, known)
        raise UserError(
            f"nothing is called {name!r}. {near} See: optbench list optimizers (or tasks, suites)"
        )
    found = catalogue.thing(name)
    return task_page(name, found) if isinstance(found, Task) else optimizer_page(found)


def optimizer_page(optimizer: Optimizer) -> str:
    """Equations, hyperparameters, source and memory."""
    parts = [
        optimizer.label(),
        inspect.getdoc(type(optimizer)) or "",
        "Hyperparameters\n" + fields(optimizer),
        f"Frameworks: {', '.join(optimizer.frameworks())}. Order: {('first', 'second')[optimizer.order - 1]}.",
        f"State: {optimizer.memory}; {state_ratio(optimizer)} floats per parameter on a 256 x 128 layer with bias.",
        f"Source: {optimizer.source}",
        f"Try: optbench run --suite quickstart --opt {optimizer.label()}",
    ]
    return "\n\n".join(parts)


def task_page(name: str, task: Task) -> str:
    """What is minimised, and what counts as solved."""
    targets = ", ".join(
        f"{t.metric} <= {t.value:g}" + (" (stops there)" if t.final else "") for t in task.targets()
    )
    parts = [
        name,
        inspect.getdoc(type(task)) or "",
        "Fields\n" + fields(task),
        f"Targets: {targets}. Steps: {task.horizon}. Selected by: {task.selection}. Reported: {task.score}.",
        f"Source: {task.source}",
        f"Try: optbench run --task {name} --opt adam",
    ]
    return "\n\n".join(parts)


def fields(thing: Optimizer | Task) -> str:
    """Name, default, range and meaning of each field."""
    rows = []
    for spec in dataclasses.fields(thing):
        bounds, choices = spec.metadata.get("bounds"), spec.metadata.get("choices")
        allowed = bounds.text if bounds else " | ".join(map(str, choices)) if choices else ""
        sweep = spec.metadata.get("sweep")
        search = spec.metadata.get("search")
        doc = spec.metadata.get("doc", "") + (f"; swept {sweep[0]:g} to {sweep[1]:g}" if sweep else "")
        doc += f"; searched {search.text()}" if search else ""
        rows.append((f"  {spec.name}", str(getattr(thing, spec.name)), allowed, doc))
    *lead, _ = zip(*rows, strict=True) if rows else ((), ())
    indent = sum(max(map(len, column)) + 2 for column in lead) if rows else 0
    lines = [
        tuple([*row[:-1], part] if not k else ["", "", "", part])
        for row in rows
        for k, part in enumerate(textwrap.wrap(row[-1], max(40, WIDTH - indent)) or [""])
    ]
    return columns(lines, left=len(lines[0])) if lines else "  none"
