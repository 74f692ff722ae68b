"""What a method declares: how optax builds it and how torch.optim does, from the same fields.

A `Standard` method is theirs; a `Room` holds a factory for optax and a class for torch.optim of our own.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, fields
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar, TypeVar, dataclass_transform, overload

from optbench.fields import Search, hyper
from optbench.optimizer import Optimizer
from optbench.protocol import Rule, Setting, Shapes
from optbench.protocol import size as size
from optbench.rules.arguments import parameter

T = TypeVar("T")
Rate = Callable[[Any], Any]
"""The learning rate as a function of the step, counted from 0."""


@overload
def declared(cls: type[T]) -> type[T]: ...
@overload
def declared(*, source: str, memory: str = "") -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(kw_only_default=True, frozen_default=True)
def declared(cls: Any = None, *, source: str = "", memory: str = "") -> Any:
    """A frozen dataclass that inherits its methods from `Method`, with what its page says of source and memory.

    `dataclass` would compile them for each class: most of the time of `optbench list`, which needs fifty. Here it
    reads the fields of a class that has nothing else.
    """
    if cls is None:
        return partial(declared, source=source, memory=memory)
    for fact, text in {"source": source, "memory": memory}.items():
        if text:
            setattr(cls, fact, text)
    own = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
    types = {name: kind for name, kind in inspect.get_annotations(cls).items() if name in own}
    bare = type("Fields", (), {**own, "__annotations__": types, "__module__": cls.__module__, "__doc__": ""})
    read: Any = dataclass(init=False, repr=False, eq=False, kw_only=True)(bare)
    for name, field in own.items():
        setattr(cls, name, field.default)
    cls.__dataclass_fields__ = cls.__dataclass_fields__ | read.__dataclass_fields__
    return cls


class Signature:
    """The signature of a class whose constructor is `Method`'s, made where it is read."""

    def __get__(self, instance: Any, cls: Any) -> inspect.Signature:
        if cls.__init__ is not Method.__init__:
            raise AttributeError("__signature__")
        made = [parameter(field.name, field, positional=False) for field in fields(cls)]
        return inspect.Signature(made, return_annotation=None)


class Method(Optimizer):
    """What `dataclass` would write for each class, and the size of the state."""

    arrays: ClassVar[int] = 0
    """How many arrays as large as the parameters the state holds; `state_floats` where that is not all."""
    __signature__ = Signature()

    def __init_subclass__(cls, **facts: Any) -> None:
        super().__init_subclass__(**facts)
        if "arrays" in vars(cls) and "memory" not in vars(cls):
            cls.memory = "n" if cls.arrays == 1 else f"{cls.arrays}n"

    def __init__(self, **given: Any) -> None:
        for field in fields(self):
            value = given.pop(field.name, field.default)
            if value is MISSING:
                raise TypeError(
                    f"{type(self).__name__}.__init__() misses the keyword argument {field.name!r}"
                )
            object.__setattr__(self, field.name, value)
        for name in given:
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument {name!r}")
        self.__post_init__()

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

    def __eq__(self, other: object) -> bool:
        same = type(self) is type(other)
        return self.values() == other.values() if same and isinstance(other, Method) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.name, *self.values()))

    def __repr__(self) -> str:
        given = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
        return f"{type(self).__qualname__}({given})"

    def state_floats(self, shapes: Shapes) -> int | None:
        return self.arrays * size(shapes)


def option_names(declared: type[Method]) -> list[str]:
    """All hyperparameters but the learning rate."""
    return [field.name for field in fields(declared) if field.name != "learning_rate"]


class Standard(Method):
    """A method of optax or torch.optim. A subclass names `optax` or overrides `in_optax`, or `in_torch`, or both."""

    memory: ClassVar[str] = "0"
    optax: ClassVar[str] = ""
    """The function of optax that takes the learning rate, and every other hyperparameter by its name."""
    asks: ClassVar[bool] = False
    """Whether the transformation asks for more than a gradient: the loss, or the loss as a function."""
    closes: ClassVar[bool] = False
    """Whether the torch.optim optimizer asks for a closure, which it calls as often as it likes."""
    starts: ClassVar[bool] = False
    """Whether the learning rate only sets the first step: a schedule then scales every step that is taken."""

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """The optax transformation; `rate(count)` is the learning rate under the schedule."""
        if not self.optax:
            raise self.not_in("jax")
        named = next(
            cls for cls in type(self).__mro__ if "optax" in vars(cls)
        )  # a subclass may have more fields
        given = {name: getattr(self, name) for name in option_names(named)}
        return attrgetter(self.optax)(optax)(rate, **given)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        """The torch.optim optimizer as a function of the parameters and `lr`."""
        raise self.not_in("torch")

    def frameworks(self) -> tuple[str, ...]:
        jax = self.optax or type(self).in_optax is not Standard.in_optax
        torch = type(self).in_torch is not Standard.in_torch
        return tuple(name for name, offered in (("jax", jax), ("torch", torch)) if offered)

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in option_names(type(self))}

    def rate(self, setting: Setting) -> Rate:
        learning_rate: Any = getattr(self, "learning_rate", 1.0)
        return setting.factor if self.starts else lambda t: learning_rate * setting.factor(t)

    def jax(self, setting: Setting) -> Rule:
        import optax

        from optbench.rules.optax import AskingRule, OptaxRule

        rule = AskingRule if self.asks else OptaxRule
        return rule(self.in_optax(optax, self.rate(setting)))

    def torch(self, setting: Setting) -> Rule:
        import torch

        from optbench.rules.torch import ScaledRule, TorchRule

        make, lr = self.in_torch(torch.optim), getattr(self, "learning_rate", 1.0)
        rule = ScaledRule if self.starts else TorchRule
        return rule(lambda named: make([p for _, p in named], lr=lr), setting.factor, self.closes)


class Room(Method):
    """A method with an optax factory and a torch.optim class of our own, which are used alone too.

    They are in the files `jax.py` and `torch.py` beside it, by the name of the method and of the class.
    """

    learning_rate: float
    halves: ClassVar[dict[str, str]]
    """The name of the factory and that of the class, by framework."""
    room: ClassVar[str]
    """The package that has the files."""
    draws: ClassVar[bool] = False
    """Whether the factory and the class take the `noise` that they draw from."""

    def __init_subclass__(cls, **facts: Any) -> None:
        super().__init_subclass__(**facts)
        if cls.__module__.startswith("optbench.optimizers."):
            cls.room, cls.halves = cls.__module__, {"jax": cls.name, "torch": cls.__name__}

    def modules(self) -> tuple[str, ...]:
        return (*super().modules(), *(f"{self.room}.{framework}" for framework in self.halves))

    def half(self, framework: str) -> Any:
        return getattr(importlib.import_module(f"{self.room}.{framework}"), self.halves[framework])

    def jax(self, setting: Setting) -> Rule:
        return self.jax_rule(self.half("jax"), setting)

    def torch(self, setting: Setting) -> Rule:
        return self.torch_rule(self.half("torch"), setting)

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in option_names(type(self))}

    def given(self, setting: Setting) -> dict[str, Any]:
        return {**self.options(), **({"noise": setting.noise} if self.draws else {})}

    def transformation(self, factory: Callable[..., Any], setting: Setting) -> Any:
        rate = self.learning_rate
        return factory(lambda t: rate * setting.factor(t), **self.given(setting))

    def jax_rule(self, factory: Callable[..., Any], setting: Setting) -> Rule:
        from optbench.rules.optax import OptaxRule

        return OptaxRule(self.transformation(factory, setting))

    def torch_rule(self, method: Callable[..., Any], setting: Setting) -> Rule:
        from optbench.rules.torch import TorchRule

        given = self.given(setting)
        return TorchRule(lambda named: method(named, self.learning_rate, **given), setting.factor)


# --- the fields that most methods have ----------------------------------------------------------------------


def step_size(default: float, low: float) -> Any:
    """A learning rate, swept over the four decades from `low`."""
    return hyper(default, "step size", bounds="(0, inf)", lane=True, sweep=(low, low * 1e4))


def decay(default: float, of: str, search: Search | None = None) -> Any:
    """A decay in [0, 1); one that trials move is a lane number."""
    return hyper(default, f"decay of {of}", bounds="[0, 1)", lane=search is not None, search=search)


def small(default: float, doc: str = "added to the root") -> Any:
    return hyper(default, doc, bounds="[0, inf)")


def flag(default: bool, doc: str) -> Any:
    return hyper(default, doc, choices=(True, False))


def weight_decay(default: float = 0.0, doc: str = "decoupled weight decay") -> Any:
    return hyper(default, doc, bounds="[0, inf)", decoupled=doc.startswith("decoupled"))
