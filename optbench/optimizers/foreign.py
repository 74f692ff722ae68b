"""Optimizers that are not classes of optbench: of other packages, or functions of one's own.

    optax:yogi    optax.contrib:prodigy    torch:Adam[amsgrad=true]    mymodule:make[b1=0.95,sweep=1e-5:1e-1]

A target is a name in a module or a file. It is one of

- a function that makes an optax transformation or a rule of optbench. Its `learning_rate` (or `lr`) is given as a
  function of the step where it takes one, else as a number, made anew each step by `optax.inject_hyperparams`;
- a subclass of torch.optim.Optimizer, or a function of `params` that makes one, with `lr` (or `learning_rate`);
- a function of `(params, state, grads, step)` that gives new parameters and state, in either framework. `state[key]` is
  zeros like the parameters until it is first set; `learning_rate`, if it takes one, is a number, the schedule in it.

Everything in brackets is handed on as it is, but for

    sweep=1e-5:1e-1     the range of the learning rate, four decades; 1e-4:1 unless said
    b1=0.5:0.99         a range: random and quasi-random trials draw from it, on a log scale (above 0.5, of 1 - b1)
    name=mine           what it is called
    create_graph=true   (torch) gradients that carry their graph

A target is imported where it is asked for, in the driver to check it and in the worker to run it, and nowhere else.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from optbench import origin
from optbench.fields import Search, UserError, hyper, name_and_fields, nearest, provenance
from optbench.optimizers.adapter import Method, declared
from optbench.protocol import FRAMEWORKS, Rule, Setting, Shapes
from optbench.target import SHORT, resolve

RATES = ("learning_rate", "lr")
"""What a learning rate is called."""
STEP = ("params", "state", "grads", "step")
"""The first parameters of a function that is an optimizer itself."""
GIVEN = (*RATES, "params", *STEP)
"""Parameters that are not the user's to give in brackets."""
DECADES = 1e4


@declared
class Foreign(Method):
    __doc__ = __doc__
    source: ClassVar[str] = "the package that its target names"
    memory: ClassVar[str] = "measured when it runs"

    target: str = hyper("", "module:name")
    framework: str = hyper("jax", "where it runs", choices=("jax", "torch", "both"))
    options: tuple[tuple[str, Any], ...] = hyper((), "what is handed on, sorted by name")
    learning_rate: float | None = hyper(
        0.01, "step size; None where there is none", bounds="(0, inf)", lane=True
    )
    low: float = hyper(1e-4, "least learning rate of the sweep", bounds="(0, inf)")
    ranges: tuple[tuple[str, float, float], ...] = hyper((), "options that trials draw, each with its range")
    called: str = hyper("", "its name; the target, unless said")

    # What other optimizers say of their class, this one says of its target.

    def frameworks(self) -> tuple[str, ...]:
        return FRAMEWORKS if self.framework == "both" else (self.framework,)

    def made_of(self) -> tuple[Any, ...]:
        return (resolve(self.target),)

    def swept(self) -> dataclasses.Field | None:
        if self.learning_rate is None:
            return None
        field = copy.copy(next(f for f in dataclasses.fields(self) if f.name == "learning_rate"))
        field.metadata = types.MappingProxyType({**field.metadata, "sweep": (self.low, self.low * DECADES)})
        field.default = default_rate(resolve(self.target))
        return field

    def searched(self) -> dict[str, Search]:
        return super().searched() | {name: Search(*between(low, high)) for name, low, high in self.ranges}

    def at(self, place: Sequence[float]) -> Self:
        options = dict(self.options) | self.drawn(place)
        rate = options.pop("learning_rate", self.learning_rate)
        return dataclasses.replace(self, learning_rate=rate, options=tuple(sorted(options.items())))

    def lane_numbers(self) -> dict[str, float]:
        return {} if self.learning_rate is None else {"learning_rate": self.learning_rate}

    def state_floats(self, shapes: Shapes) -> None:
        return

    def vectorizes(self, shapes: Shapes) -> bool:
        """No: what is inside is not known, and each lane then has the bits it has alone."""
        return False

    def label(self) -> str:
        drawn = {name: f"{low:g}:{high:g}" for name, low, high in self.ranges}
        given = {name: value for name, value in self.options if name not in drawn} | drawn
        if self.low != type(self).low:
            given["sweep"] = f"{self.low:g}:{self.low * DECADES:g}"
        inside = ",".join(f"{name}={value}" for name, value in given.items())
        called = self.called or short(self.target)
        return f"{called}[{inside}]" if inside else called

    def spec(self) -> dict[str, Any]:
        """As plain data, with the origin and the code of the target; the options are one column of a record."""
        spec = super().spec() | {
            "target": short(self.target),
            "options": json.dumps(dict(self.options), sort_keys=True, default=repr),
            "ranges": json.dumps(self.ranges),
        }
        for name in ("ranges", "called"):
            if not getattr(self, name):
                del spec[name]
        return spec | provenance(resolve(self.target))

    # How it runs.

    def jax(self, setting: Setting) -> Rule:
        if "jax" not in self.frameworks():
            return super().jax(setting)
        import optax

        from optbench.rules.optax import AskingRule

        make, options = resolve(self.target), dict(self.options)
        rate: Any = self.learning_rate
        if is_step(make):
            import jax.numpy as jnp

            from optbench.rules.function import FunctionRule

            return FunctionRule(self.step_of(make, setting), jnp.zeros_like)
        name = rate_name(make)
        if rate is not None and name is not None:
            options[name] = lambda t: rate * setting.factor(t)
            if not takes_schedule(self.target, make, self.options):
                make = optax.inject_hyperparams(make, static_args=set(parameters(make)) - {name})
        made = make(**options)
        if isinstance(made, optax.GradientTransformation):
            scaled = [] if name else [optax.scale_by_schedule(setting.factor)]
            return AskingRule(optax.chain(made, *scaled))
        if all(callable(getattr(made, method, None)) for method in ("init", "step", "evaluated")):
            return made
        raise UserError(
            f"{self.label()} gave {type(made).__name__}, not an optax transformation or a Rule of optbench."
        )

    def torch(self, setting: Setting) -> Rule:
        if "torch" not in self.frameworks():
            return super().torch(setting)
        made: Any = resolve(self.target)
        if is_step(made):
            import torch

            from optbench.rules.function import TorchFunctionRule

            return TorchFunctionRule(self.step_of(made, setting), torch.zeros_like)
        from optbench.rules.torch import TorchRule

        options = dict(self.options)
        graph = options.pop("create_graph", False)
        name = rate_name(made)
        rate = {} if self.learning_rate is None or name is None else {name: self.learning_rate}
        make = functools.partial(made, **rate, **options)
        step = parameters(getattr(made, "step", made)) if inspect.isclass(made) else {}
        closure = step.get("closure")
        needs = closure is not None and closure.default is closure.empty
        return TorchRule(lambda named: make([p for _, p in named]), setting.factor, needs, graph)

    def step_of(self, function: Callable[..., Any], setting: Setting) -> Callable[..., Any]:
        """A function of parameters, state, gradients and step, with its options and the learning rate of the step."""
        rate, name, options = self.learning_rate, rate_name(function), dict(self.options)

        def step(params: Any, state: Any, grads: Any, t: Any) -> tuple[Any, Any]:
            scaled = {} if name is None or rate is None else {name: rate * setting.factor(t)}
            return function(params, state, grads, t, **scaled, **options)

        return step


def parse(text: str, made: Any = None, called: str = "") -> Foreign:
    """From `module:name[option=value,...]`; imports the module, so that what cannot be is said at once."""
    target, given = name_and_fields(text)
    made = resolve(target) if made is None else made
    if not callable(made):
        raise UserError(
            f"{target} is {type(made).__name__}, not a function or class that makes an optimizer."
        )
    called = given.pop("name", called)
    sweep = given.pop("sweep", None)
    known, drawn = parameters(made), {}
    for name, value in list(given.items()):
        if (ends := range_of(value)) is not None:
            drawn[name] = ends
            default = known[name].default if name in known else None
            given[name] = str(default if isinstance(default, int | float) else ends[0])
    options = {name: value_of(value) for name, value in given.items()}
    framework = framework_of(made)
    for name, value in options.items():
        check_option(target, made, framework, name, value)
    found = {*options, *RATES, "params", *(STEP if is_step(made) else ())}
    for name, spec in known.items():
        optional = spec.default is not spec.empty or spec.kind in (spec.VAR_KEYWORD, spec.VAR_POSITIONAL)
        if not optional and name not in found:
            raise UserError(f"{target} needs {name}. Write: --opt '{target}[{name}=...]'")
    return Foreign(
        target=target,
        framework=framework,
        options=tuple(sorted(options.items())),
        learning_rate=None if rate_name(made) is None else default_rate(made),
        low=1e-4 if sweep is None else lower_end(target, sweep),
        ranges=tuple(sorted((name, *ends) for name, ends in drawn.items())),
        called=called,
    )


def of(thing: Any, called: str = "") -> Foreign:
    """From a function or class, or from an optax transformation, whose learning rate is its own."""
    if not isinstance(thing, type) and all(
        callable(getattr(thing, each, None)) for each in ("init", "update")
    ):
        return of(lambda: thing, called or "transformation")
    if not callable(thing) or not hasattr(thing, "__qualname__"):
        raise UserError(
            f"{thing!r} is no optimizer. Give a name, an Optimizer, an optax transformation or a function that makes "
            "one, a torch.optim class, or a function of (params, state, grads, step)."
        )
    target = origin.origin(thing)
    for name, full in SHORT.items():
        if target.startswith(f"{full}:"):
            target = name + target.removeprefix(full)
    if target.startswith("unnamed:"):
        called = called or target.removeprefix("unnamed:").partition("-")[0]
    elif thing.__module__ in origin.FILES:
        target = f"{origin.FILES[thing.__module__]}:{thing.__qualname__}"
        called = called or thing.__name__
    return parse(target, thing, called)


def short(target: str) -> str:
    return Path(target).name if ".py:" in target else target


def is_step(made: Callable[..., Any]) -> bool:
    return not inspect.isclass(made) and tuple(parameters(made))[:4] == STEP


def framework_of(made: Any) -> str:
    """torch for a torch.optim class or a function of params, both for a function of a step, else jax."""
    if not inspect.isclass(made):
        return "both" if is_step(made) else "torch" if "params" in parameters(made) else "jax"
    bases = [f"{base.__module__}.{base.__qualname__}" for base in made.__mro__]
    if "torch.optim.optimizer.Optimizer" not in bases:
        raise UserError(
            f"{made.__module__}:{made.__qualname__} is a class, but not of torch.optim.Optimizer. "
            "Give such a class, or a function that gives an optax transformation."
        )
    return "torch"


def parameters(made: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(made).parameters


def rate_name(made: Callable[..., Any]) -> str | None:
    return next((name for name in RATES if name in parameters(made)), None)


def default_rate(made: Callable[..., Any]) -> float:
    """The target's own learning rate, where it declares one; else 0.01."""
    name = rate_name(made)
    default = None if name is None else parameters(made)[name].default
    usual = isinstance(default, int | float) and not isinstance(default, bool) and default > 0
    return float(default) if usual else 0.01  # pyright: ignore[reportArgumentType]


@functools.lru_cache(maxsize=1000)
def takes_schedule(target: str, make: Callable[..., Any], options: tuple[tuple[str, Any], ...]) -> bool:
    """Whether its learning rate may be a function of the step: as it declares, or else as a step shows."""
    name = rate_name(make)
    assert name is not None
    declared = parameters(make)[name].annotation
    if declared is not inspect.Parameter.empty:
        return any(word in str(declared) for word in ("Schedule", "Callable", "Any"))
    import jax
    import jax.numpy as jnp
    import optax

    def step(params: Any) -> Any:
        made = make(**{name: lambda t: 0.1 / (1.0 + t)}, **dict(options))
        if not isinstance(made, optax.GradientTransformation):
            return params
        transform = optax.with_extra_args_support(made)
        asked = {"value": jnp.zeros(()), "grad": params, "value_fn": lambda params: jnp.zeros(())}
        return transform.update(params, transform.init(params), params, **asked)[0]

    try:
        jax.eval_shape(step, {"w": jnp.zeros((3, 2)), "b": jnp.zeros(3)})
    except TypeError:  # it computes with its learning rate, which a function does not stand
        return False
    except Exception:  # whatever else is wrong with it comes up when it runs
        return True
    return True


def value_of(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def check_option(target: str, made: Any, framework: str, name: str, value: Any) -> None:
    known = parameters(made)
    if framework == "torch" and name == "create_graph" and isinstance(value, bool):
        return
    if name in RATES:
        raise UserError(
            f"{target}[{name}={value}] fixes what the suite sweeps. Give the values: --lr {value}"
        )
    if name in GIVEN or (name not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values())):
        free = [each for each in known if each not in GIVEN]
        raise UserError(f"{target} has no option {name!r}. {nearest(name, free)}")
    default = known[name].default if name in known else None
    wrong = isinstance(default, int | float) and not isinstance(value, int | float | None)
    if wrong or (isinstance(default, bool) and value not in (True, False)):
        kind = "True or False" if isinstance(default, bool) else "a number"
        raise UserError(f"{target}: {name}={value!r} is not {kind}; its default is {default!r}.")


def range_of(text: str) -> tuple[float, float] | None:
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        return None
    return (low, high) if 0 < low < high else None


def between(low: float, high: float) -> tuple[float, float, bool]:
    """The range as a Search has it: of one minus the number where all of it lies in [0.5, 1)."""
    return (1 - high, 1 - low, True) if low >= 0.5 and high < 1 else (low, high, False)


def lower_end(target: str, text: str) -> float:
    """The lower end of `sweep=low:high`, which must span four decades, as every optimizer's does."""
    ends = range_of(text)
    if ends is None or not math.isclose(ends[1] / ends[0], DECADES, rel_tol=1e-6):
        raise UserError(
            f"{target}: sweep={text} is not a range of four decades, which every optimizer gets. "
            "Write sweep=1e-5:1e-1"
        )
    return ends[0]
