"""What `optbench list` and `optbench show` print; nothing heavy is imported, and no catalogue that is not asked for."""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from optbench.fields import Named, UserError, nearest, split_brackets
from optbench.optimizer import Optimizer
from optbench.task import Task
from optbench.wording import columns, command_line

EXAMPLE = {"w": (256, 128), "b": (256,)}
"""The layer that state sizes are quoted for."""
ALONE = {"jax": "optax has it, torch.optim does not", "torch": "torch.optim has it, optax does not"}
"""Why a method of one of these packages is in one framework only."""
WIDTH = 140
"""Letters of a line of a page; what a field means is wrapped below itself."""


def listing(what: str) -> list[dict[str, str]]:
    """The names of a kind with what one wants to know at a glance: a row each."""
    from optbench import catalogue

    things = catalogue.listed(what)
    rows = []
    for name in sorted(things) if what == "optimizers" else things:
        try:
            rows.append(at_a_glance(what, name, things[name]))
        except UserError as error:  # of an installed package that is broken
            print(f"left out {name}: {error}", file=sys.stderr)
    return rows


def as_table(rows: Sequence[dict[str, str]]) -> str:
    return columns([list(rows[0]), *(list(row.values()) for row in rows)], left=len(rows[0]))


def at_a_glance(what: str, name: str, make: Callable[[], Any]) -> dict[str, str]:
    if what == "suites":
        return {"suite": name, "question": question(name)}
    thing = make()
    if what == "metrics":
        return {"metric": name, "what": first_line(thing.function)}
    if what == "tasks":
        dim, more = (
            getattr(thing, "dim", None),
            {"selected by": thing.selection, "source": fitted(thing.source, 50)},
        )
        return {"task": name, "parameters": str(dim or "-"), "steps": str(thing.horizon), **more}
    more = {"state/param": state_ratio(thing), "source": fitted(thing.source, 47)}
    return {"optimizer": name, "frameworks": ",".join(thing.frameworks()), "order": str(thing.order), **more}


def question(name: str) -> str:
    from optbench import catalogue, suite

    if name in suite.names():
        return suite.docstring(name).partition("\n")[0]
    return f"of an installed package: {catalogue.offered('suites')[name].value}"


def first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def fitted(text: str, width: int) -> str:
    """The text, cut after a whole word where it is longer than the line has room for."""
    return textwrap.shorten(text, width, placeholder=" ...")


def state_ratio(optimizer: Optimizer) -> str:
    """State floats per parameter on the example layer; '?' where only a run can tell."""
    floats = optimizer.state_floats(EXAMPLE)
    return "?" if floats is None else f"{floats / sum(math.prod(shape) for shape in EXAMPLE.values()):.2f}"


def layouts(optimizer: Optimizer) -> list[str]:
    """State floats per parameter by each option of few choices that changes them."""
    lines = []
    for spec in dataclasses.fields(optimizer):
        found = {}
        for value in spec.metadata.get("choices") or ():
            try:
                found[value] = state_ratio(optimizer.replace(**{spec.name: value}))
            except UserError:  # a choice that needs another option
                continue
        if len(set(found.values())) > 1:
            each = ", ".join(f"{value} {ratio}" for value, ratio in found.items())
            lines.append(f"State by {spec.name}: {each}.")
    return lines


def page(name: str) -> tuple[str, dict[str, Any]]:
    """The page of an optimizer, task, suite or metric, and what it says as data."""
    from optbench import catalogue, optimizers, suite, tasks
    from optbench.optimizers.wrappers import WRAPPERS

    if name in optimizers.listed():
        return thing_page(optimizers.listed()[name], name)
    if name in tasks.names():
        return thing_page(tasks.names()[name], name)
    if file := name.endswith(".py"):
        catalogue.suite(name)  # which says what is wrong with it
    if file or name in suite.names():
        return described("suite", name, suite.docstring(name))
    known = {each: kind for kind in catalogue.KINDS for each in catalogue.listed(kind)}
    kind = known.get(name.partition("[")[0])
    if kind in ("suites", "metrics"):
        thing = catalogue.listed(kind)[name]()
        return described(kind[:-1], name, inspect.getdoc(getattr(thing, "function", thing)) or "")
    *_, wrapper = split_brackets(name, "+")
    if kind is None and wrapper.partition("[")[0] in WRAPPERS:
        return wrapper_page(name, wrapper)
    if kind is None and ":" not in name:
        see = "See: optbench list optimizers (or tasks, suites)"
        raise UserError(f"nothing is called {name!r}. {nearest(name, known)} {see}")
    return thing_page(catalogue.thing(name), name)


def wrapper_page(name: str, wrapper: str) -> tuple[str, dict[str, Any]]:
    """The page of a wrapper; around a method, with the method's first line."""
    from optbench import catalogue
    from optbench.optimizers.wrappers import WRAPPERS

    method: Any = catalogue.optimizer(name if "+" in name else f"adamw+{name}")
    known, around = WRAPPERS[wrapper.partition("[")[0]], "Around any method."
    if "+" in name:
        around = f"Around {method.inner.label()}: {first_line(type(method.inner))}"
    lines = [around, f"Source: {known.source}", f"Try: optbench run --task mlp --opt adamw,{method.label()}"]
    return with_fields(known, "wrapper", name, name, "Fields", lines, source=known.source)


def described(kind: str, name: str, text: str) -> tuple[str, dict[str, Any]]:
    return f"{name}\n\n{text}", {"kind": kind, "name": name, "description": text}


def with_fields(
    thing: Any, kind: str, name: str, title: str, heading: str, lines: Sequence[str], **more: Any
) -> tuple[str, dict[str, Any]]:
    """The page of a dataclass, its fields under a heading; as data, with more facts."""
    # A target of a user's has words of its own.
    own = thing.made_of()[0] if isinstance(thing, Named) else None
    description = inspect.getdoc(own) or inspect.getdoc(type(thing)) or ""
    rows = [field_row(thing, spec) for spec in dataclasses.fields(thing)]
    facts = {"kind": kind, "name": name, "description": description, "fields": rows, **more}
    return "\n\n".join([title, description, f"{heading}\n{as_fields(rows)}", *lines]), facts


def thing_page(thing: Optimizer | Task, name: str) -> tuple[str, dict[str, Any]]:
    """Equations, fields, source; memory of an optimizer, targets of a task."""
    facts: dict[str, Any] = {"frameworks": list(thing.frameworks()), "source": thing.source}
    other = None if "jax" in facts["frameworks"] else ",".join(facts["frameworks"]) or None
    if isinstance(thing, Task):
        targets = [(t.metric, t.value, t.final) for t in thing.targets()]
        facts |= {"targets": targets, "steps": thing.horizon}
        facts |= {"selected_by": thing.selection, "reported": thing.score}
        texts = [f"{metric} <= {value:g}{' (stops there)' * final}" for metric, value, final in targets]
        goals = f"Targets: {', '.join(texts)}. Steps: {thing.horizon}."
        chosen = f"Selected by: {thing.selection}. Reported: {thing.score}."
        lines = [
            f"{goals} {chosen}",
            *([f"Source: {thing.source}"] if thing.source else []),
            f"Try: {command_line('run', task=name, opt='adam', framework=other)}",
        ]
        return with_fields(thing, thing.kind, name, name, "Fields", lines, **facts)
    label, ratio = thing.label(), state_ratio(thing)
    typed = name if ":" in name else label
    facts |= {"order": thing.order, "memory": thing.memory, "state_floats_per_parameter": ratio}
    state = f"State: {thing.memory}; {ratio} floats per parameter on a 256 x 128 layer with bias."
    lines = [
        f"Frameworks: {offered(thing)}. Order: {('first', 'second')[thing.order - 1]}.",
        "\n".join([state, *layouts(thing)]),
        f"Source: {thing.source}",
        f"Try: {command_line('run', suite='quickstart', opt=typed, framework=other)}",
    ]
    return with_fields(thing, thing.kind, name, label, "Hyperparameters", lines, **facts)


def offered(thing: Optimizer | Task) -> str:
    """The frameworks, and why a method has only one."""
    from optbench.optimizers.adapter import Standard

    found = ", ".join(thing.frameworks())
    return f"{found} ({ALONE[found]})" if isinstance(thing, Standard) and found in ALONE else found


def field_row(thing: Named, spec: dataclasses.Field) -> dict[str, Any]:
    bounds, choices, sweep, search = map(spec.metadata.get, ("bounds", "choices", "sweep", "search"))
    return {
        "name": spec.name,
        "value": getattr(thing, spec.name),
        "allowed": bounds.text if bounds else " | ".join(map(str, choices)) if choices else "",
        "meaning": spec.metadata.get("doc", ""),
        "swept": f"{sweep[0]:g} to {sweep[1]:g}" if sweep else None,
        "searched": search.text() if search else None,
    }


def as_fields(rows: Sequence[dict[str, Any]]) -> str:
    """The fields under each other, each meaning wrapped below itself."""
    if not rows:
        return "  none"
    heads = [(f"  {row['name']}", str(row["value"]), row["allowed"]) for row in rows]
    indent = sum(max(map(len, column)) + 2 for column in zip(*heads, strict=True))
    wrapped = []
    for row, head in zip(rows, heads, strict=True):
        extra = "".join(f"; {how} {row[how]}" for how in ("swept", "searched") if row[how])
        first, *rest = textwrap.wrap(row["meaning"] + extra, max(40, WIDTH - indent)) or [""]
        wrapped += [(*head, first), *(("", "", "", part) for part in rest)]
    return columns(wrapped, left=4)
