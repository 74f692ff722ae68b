"""What a factory or a class takes that is used alone: the fields of a dataclass, which stand nowhere else.

    @takes(NgcNag, "eta mu", eta=rate(NgcNag), mu=field(NgcNag, "momentum"))
    def ngc_nag(eta, mu): ...

The function gets every argument by name, given or at its default. Its signature and the section of arguments in its
docstring are made from the fields; `help` and `inspect.signature` show them, and ranges are checked by them.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import Field
from numbers import Real
from typing import Any, Protocol, TypeVar

from optbench.fields import hyper
from optbench.optimizer import Optimizer
from optbench.ranges import require

R = TypeVar("R")
Arguments = Mapping[str, Field]
SCHEDULED = "step size, or a schedule evaluated at a count from 0"
"""What a factory for optax says of its learning rate."""
OUT_OF_RANGE = "\n    ValueError: a hyperparameter is out of its range."


class Decorator(Protocol):
    """Makes a function whose arguments are known when the program runs; a type checker accepts any."""

    def __call__(self, function: Callable[..., R]) -> Callable[..., R]: ...


def takes(declared: type[Optimizer], names: str, **others: Any) -> Decorator:
    """Let a function take arguments, in the order of `names`: fields of a dataclass, and `others` made by `hyper`.

    Those after `*` are given by keyword. Parameters of the function that are none of them come first. The numbers of
    a factory are checked here, those of a class by group (`CheckedOptimizer`).
    """
    known = {each.name: each for each in dataclasses.fields(declared)} | others
    arguments = {name: known[name] for name in names.split() if name != "*"}
    positional, _, _ = names.partition("*")

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        parameters = inspect.signature(function).parameters.values()
        own = [p for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in arguments]
        made = [parameter(name, each, name in positional.split()) for name, each in arguments.items()]
        signature = inspect.Signature(own + made)

        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> R:
            bound = signature.bind(*args, **given)
            bound.apply_defaults()
            if not own:
                check(declared.name, arguments, bound.arguments)
            return function(**bound.arguments)

        vars(call).update(__signature__=signature, arguments=arguments)
        call.__doc__ = documented(function.__doc__, arguments, "" if own else OUT_OF_RANGE)
        return call

    return decorate


def parameter(name: str, field: Field, positional: bool) -> inspect.Parameter:
    kinds = inspect.Parameter
    return kinds(
        name,
        kinds.POSITIONAL_OR_KEYWORD if positional else kinds.KEYWORD_ONLY,
        default=kinds.empty if field.default is dataclasses.MISSING else field.default,
        annotation=field.type or kinds.empty,
    )


def documented(doc: str | None, arguments: Arguments, errors: str = "") -> str | None:
    """A docstring with a section of arguments before what is raised: `errors`, where the docstring names none."""
    if not doc or not arguments:
        return doc
    front, raises, rest = inspect.cleandoc(doc).partition("Raises:")
    if errors and not raises:
        raises, rest = "Raises:", errors
    lines = []
    for name, field in arguments.items():
        bounds = field.metadata.get("bounds")  # a field of a user's class may be a plain number
        lines.append(
            f"    {name}: {field.metadata.get('doc', '')}" + (f"; in {bounds.text}." if bounds else ".")
        )
    return "\n".join([front.rstrip(), "", "Args:", *lines, "", raises + rest]).rstrip()


def check(owner: str, arguments: Arguments, given: Mapping[str, Any]) -> None:
    """Raise ValueError, naming field, value and range, for a number outside the bounds of its field.

    Schedules, arrays and traced numbers pass, and None where it is the default or of the field's type.
    """
    for name, field in arguments.items():
        bounds, value = field.metadata.get("bounds"), given.get(name, field.default)
        if bounds is None or callable(value) or (value is None and "None" in f"{field.default} {field.type}"):
            continue
        require(owner, bounds.text, **{name: value})
        if "int" in str(field.type) and isinstance(value, Real) and value % 1:
            raise ValueError(f"{owner}: {name}={value!r} is not an integer in {bounds.text}")


def field(declared: type[Optimizer], name: str, **changes: Any) -> Any:
    """A field of a dataclass, under whatever name; its default, `doc` or `bounds` may be changed."""
    (same,) = (each for each in dataclasses.fields(declared) if each.name == name)
    bounds = same.metadata.get("bounds")
    given = {"default": same.default, "doc": same.metadata.get("doc", ""), "bounds": bounds and bounds.text}
    return hyper(**given | changes)


def rate(declared: type[Optimizer], **changes: Any) -> Any:
    """The learning rate, which may be 0 where an optimizer is used alone, as a warmup's first is."""
    return field(declared, "learning_rate", **{"bounds": "[0, inf)", **changes})


def at(number: Any, count: Any) -> Any:
    return number(count) if callable(number) else number
