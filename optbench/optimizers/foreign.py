"""Optimizers of other packages, without a line of ours: `optax:adabelief`, `torch:NAdam`, `mypackage.mymodule:make`.

    optax:yogi    optax.contrib:prodigy    torch:Adam[amsgrad=true]    mypackage.mymodule:make[b1=0.95,sweep=1e-5:1e-1]

A target is a module and a name in it. In JAX it is a function that gives an optax transformation or a rule of
optbench; its `learning_rate`, if it has one, is given as a function of the step. In PyTorch it is a subclass of
torch.optim.Optimizer, with `lr`. Everything in brackets is handed on as it is, but for

    sweep=1e-5:1e-1     the range of the learning rate, four decades; 1e-4:1 unless said
    create_graph=true   (torch) gradients that carry their graph

A target is imported where it is asked for, in the driver to check it and in the worker to run it, and nowhere else.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import inspect
import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from optbench.fields import UserError, hyper, name_and_fields, nearest
from optbench.optimizer import Optimizer
from optbench.protocol import Rule, Setting, Shapes

SHORT = {"torch": "torch.optim"}
"""Modules that may be named shortly."""
RATES = ("learning_rate", "lr")
"""What a learning rate is called."""


@dataclass(frozen=True, kw_only=True)
class Foreign(Optimizer):
    __doc__ = __doc__
    name: ClassVar[str] = "foreign"
    source: ClassVar[str] = "the package that its target names"
    memory: ClassVar[str] = "measured when it runs"

    target: str = hyper("", "module:name")
    framework: str = hyper("jax", "where it runs", choices=("jax", "torch"))
    options: tuple[tuple[str, Any], ...] = hyper((), "what is handed on, sorted by name")
    learning_rate: float | None = hyper(
        0.01, "step size; None where there is none", bounds="(0, inf)", lane=True
    )
    low: float = hyper(1e-4, "least learning rate of the sweep", bounds="(0, inf)")

    # What other optimizers say of their class, this one says of its target.

    def frameworks(self) -> tuple[str, ...]:
        """The one that its target belongs to."""
        return (self.framework,)

    def swept(self) -> dataclasses.Field | None:
        """The learning rate over four decades, if there is one."""
        if self.learning_rate is None:
            return None
        field = copy.copy(next(f for f in dataclasses.fields(self) if f.name == "learning_rate"))
        field.metadata = types.MappingProxyType({**field.metadata, "sweep": (self.low, self.low * 1e4)})
        return field

    def lane_numbers(self) -> dict[str, float]:
        """The learning rate, if there is one."""
        return {} if self.learning_rate is None else {"learning_rate": self.learning_rate}

    def state_floats(self, shapes: Shapes) -> None:
        """Not known before it runs."""
        return

    def vectorizes(self, shapes: Shapes) -> bool:
        """No: what is inside is not known, and each lane then has the bits it has alone."""
        return False

    def label(self) -> str:
        """What one types: the target with its options."""
        told = {
            **dict(self.options),
            **({} if self.low == type(self).low else {"sweep": f"{self.low:g}:{self.low * 1e4:g}"}),
        }
        inside = ",".join(f"{name}={value}" for name, value in told.items())
        return f"{self.target}[{inside}]" if inside else self.target

    def spec(self) -> dict[str, Any]:
        """As plain data; the options are one column of a record."""
        return {**super().spec(), "options": json.dumps(dict(self.options), sort_keys=True)}

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Self:
        """From `spec`."""
        options = tuple(sorted(json.loads(spec["options"]).items()))
        return cls(
            **{key: value for key, value in spec.items() if key not in ("name", "options")}, options=options
        )

    # How it runs.

    def jax(self, setting: Setting) -> Rule:
        """The transformation or rule that the target gives."""
        if self.framework != "jax":
            return super().jax(setting)
        import optax

        from optbench.rules.optax import AskingRule

        make, options = resolve(self.target), dict(self.options)
        rate: Any = self.learning_rate
        name = rate_name(make)
        if rate is None or name is None:
            made = make(**options)
        elif takes_schedule(make, name):
            made = make(**{name: lambda t: rate * setting.factor(t)}, **options)
        else:
            fixed = set(inspect.signature(make).parameters) - {name}
            injected = optax.inject_hyperparams(make, static_args=fixed)
            made = injected(**{name: lambda t: rate * setting.factor(t)}, **options)
        if isinstance(made, optax.GradientTransformation):
            scaled = [] if name else [optax.scale_by_schedule(setting.factor)]
            return AskingRule(optax.chain(made, *scaled))
        if all(callable(getattr(made, method, None)) for method in ("init", "step", "evaluated")):
            return made
        raise TypeError(f"{self.target} gave {type(made).__name__}, not an optax transformation or a Rule")

    def torch(self, setting: Setting) -> Rule:
        """The class that the target is, over all parameters."""
        if self.framework != "torch":
            return super().torch(setting)
        from optbench.rules.torch import TorchRule

        options = dict(self.options)
        graph = options.pop("create_graph", False)
        rate = {} if self.learning_rate is None else {"lr": self.learning_rate}
        made: Any = resolve(self.target)
        make = functools.partial(made, **rate, **options)
        step = inspect.signature(made.step).parameters
        closure = next((each for each in step.values() if each.name == "closure"), None)
        needs = closure is not None and closure.default is closure.empty
        return TorchRule(
            lambda named: make([p for _, p in named]), setting.factor, needs_closure=needs, create_graph=graph
        )


def parse(text: str) -> Foreign:
    """From `module:name[option=value,...]`; imports the module, so that what cannot be is said at once."""
    target, given = name_and_fields(text)
    sweep = given.pop("sweep", None)
    options = {name: value_of(value) for name, value in given.items()}
    made = resolve(target)
    framework = framework_of(made)
    known = parameters(made)
    for name, value in options.items():
        check_option(target, made, framework, name, value)
    rate = None if rate_name(made) is None else 0.01
    missing = [
        name
        for name, spec in known.items()
        if spec.default is spec.empty
        and spec.kind not in (spec.VAR_KEYWORD, spec.VAR_POSITIONAL)
        and name not in options
        and name not in (*RATES, "params")
    ]
    if missing:
        raise UserError(f"{target} needs {missing[0]}. Write: --opt '{target}[{missing[0]}=...]'")
    low = 1e-4 if sweep is None else lower_end(target, sweep)
    return Foreign(
        target=target,
        framework=framework,
        options=tuple(sorted(options.items())),
        learning_rate=rate,
        low=low,
    )


@functools.cache
def resolve(target: str) -> Callable[..., Any]:
    """What a target names; a UserError with its neighbours if it is not there."""
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise UserError(f"{target!r} is no target. Write module:name, such as optax:adabelief or torch:NAdam")
    full = SHORT.get(module_name, module_name)
    try:
        module = importlib.import_module(full)
    except ModuleNotFoundError as error:
        where = "" if error.name and full.startswith(error.name) else f" ({full} needs {error.name})"
        raise UserError(
            f"module {full!r} of {target!r} is not installed{where}. Install it, or put its folder on PYTHONPATH."
        ) from error
    except Exception as error:
        raise UserError(
            f"module {full!r} of {target!r} does not import: {type(error).__name__}: {error}. Mend it, then try again."
        ) from error
    found = getattr(module, name, None)
    if callable(found):
        return found
    if found is None:
        near = nearest(name, [each for each in vars(module) if not each.startswith("_")])
        raise UserError(
            f"module {full!r} has no {name!r}. {near if near.startswith('Did') else 'Look at its documentation.'}"
        )
    raise UserError(f"{target} is {type(found).__name__}, not a function or class that makes an optimizer.")


def framework_of(made: Any) -> str:
    """torch for a subclass of torch.optim.Optimizer, else jax; any other class is refused."""
    if not inspect.isclass(made):
        return "jax"
    bases = [f"{base.__module__}.{base.__qualname__}" for base in made.__mro__]
    if "torch.optim.optimizer.Optimizer" not in bases:
        raise UserError(
            f"{made.__module__}:{made.__qualname__} is a class, but not of torch.optim.Optimizer. "
            "Give such a class, or a function that gives an optax transformation."
        )
    return "torch"


def parameters(made: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """What a factory or class takes."""
    return inspect.signature(made).parameters


def rate_name(made: Callable[..., Any]) -> str | None:
    """What its learning rate is called, if it has one."""
    return next((name for name in RATES if name in parameters(made)), None)


def takes_schedule(made: Callable[..., Any], name: str) -> bool:
    """Whether its learning rate may be a function of the step; it may not if it is declared to be a number."""
    declared = parameters(made)[name].annotation
    text = declared if isinstance(declared, str) else getattr(declared, "__name__", None) or str(declared)
    return declared is inspect.Parameter.empty or any(
        word in f"{text} {declared}" for word in ("Schedule", "Callable", "Any")
    )


def value_of(text: str) -> Any:
    """A number, True, False, None, or the text itself."""
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
    """A UserError for an option that is not taken, is not the user's to give, or is of another kind."""
    known = parameters(made)
    if framework == "torch" and name == "create_graph" and isinstance(value, bool):
        return
    if name in RATES:
        raise UserError(
            f"{target}[{name}={value}] fixes what the suite sweeps. Give the values: --lr {value}"
        )
    if name == "params" or (name not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values())):
        free = [each for each in known if each not in (*RATES, "params")]
        raise UserError(f"{target} has no option {name!r}. {nearest(name, free)}")
    default = known[name].default if name in known else None
    wrong = isinstance(default, int | float) and not isinstance(value, int | float | None)
    if wrong or (isinstance(default, bool) and value not in (True, False)):
        kind = "True or False" if isinstance(default, bool) else "a number"
        raise UserError(f"{target}: {name}={value!r} is not {kind}; its default is {default!r}.")


def lower_end(target: str, text: str) -> float:
    """The lower end of `sweep=low:high`, which must span four decades, as every optimizer's does."""
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low = high = math.nan
    if not (low > 0 and math.isclose(high / low, 1e4, rel_tol=1e-6)):
        raise UserError(
            f"{target}: sweep={text} is not a range of four decades, which every optimizer gets. "
            "Write sweep=1e-5:1e-1"
        )
    return low
