"""What a method declares: how optax builds it and how torch.optim does, from the same fields.

A `Standard` method is theirs; a `Room` holds a factory for optax and a class for torch.optim of our own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, dataclass_transform

from optbench.fields import Search, hyper
from optbench.optimizer import Optimizer
from optbench.protocol import Rule, Setting, Shapes
from optbench.protocol import size as size

T = TypeVar("T")
Rate = Callable[[Any], Any]
"""The learning rate as a function of the step, counted from 0."""


@dataclass_transform(kw_only_default=True, frozen_default=True)
def declared(cls: type[T]) -> type[T]:
    """A frozen dataclass that inherits how it compares; `optbench list` makes forty, and each takes half as long."""
    return dataclass(frozen=True, kw_only=True, repr=False, eq=False)(cls)


@declared
class Standard(Optimizer):
    """A method of optax or torch.optim. A subclass overrides `in_optax`, `in_torch` or both."""

    arrays: ClassVar[int] = 0
    """How many arrays as large as the parameters the state holds; `state_floats` where that is not all."""
    asks: ClassVar[bool] = False
    """Whether the transformation asks for more than a gradient: the loss, or the loss as a function."""

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """The optax transformation; `rate(count)` is the learning rate under the schedule."""
        raise NotImplementedError

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        """The torch.optim optimizer as a function of the parameters and `lr`."""
        raise NotImplementedError

    def frameworks(self) -> tuple[str, ...]:
        """The frameworks whose half is declared."""
        halves = (("jax", "in_optax"), ("torch", "in_torch"))
        return tuple(
            name for name, half in halves if getattr(type(self), half) is not getattr(Standard, half)
        )

    def rate(self, setting: Setting) -> Rate:
        """The learning rate as a function of the step."""
        learning_rate: Any = getattr(self, "learning_rate", 1.0)
        return lambda t: learning_rate * setting.factor(t)

    def jax(self, setting: Setting) -> Rule:
        """The optax transformation as a rule."""
        if "jax" not in self.frameworks():
            return super().jax(setting)
        import optax

        from optbench.rules.optax import AskingRule, OptaxRule

        rule = AskingRule if self.asks else OptaxRule
        return rule(self.in_optax(optax, self.rate(setting)))

    def torch(self, setting: Setting) -> Rule:
        """The torch.optim optimizer as a rule."""
        if "torch" not in self.frameworks():
            return super().torch(setting)
        import torch

        from optbench.rules.torch import TorchRule

        make, lr = self.in_torch(torch.optim), getattr(self, "learning_rate", 1.0)
        return TorchRule(lambda named: make([p for _, p in named], lr=lr), setting.factor)

    def values(self) -> tuple[Any, ...]:
        """The hyperparameters, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def __eq__(self, other: object) -> bool:
        same = type(self) is type(other)
        return self.values() == other.values() if same and isinstance(other, Standard) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.name, *self.values()))

    def __repr__(self) -> str:
        told = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
        return f"{type(self).__qualname__}({told})"

    def state_floats(self, shapes: Shapes) -> int:
        """So many arrays as large as the parameters."""
        return self.arrays * size(shapes)


@dataclass(frozen=True, kw_only=True)
class Room(Optimizer):
    """A method with an optax factory and a torch.optim class of our own, which are used alone too."""

    learning_rate: float

    def options(self) -> dict[str, Any]:
        """What both are given beside the learning rate, by the names of the originals."""
        names = (field.name for field in fields(self) if field.name != "learning_rate")
        return {name: getattr(self, name) for name in names}

    def transformation(self, factory: Callable[..., Any], setting: Setting, **given: Any) -> Any:
        """The optax transformation under the schedule."""
        rate = self.learning_rate
        return factory(lambda t: rate * setting.factor(t), **self.options(), **given)

    def jax_rule(self, factory: Callable[..., Any], setting: Setting, **given: Any) -> Rule:
        """The optax transformation as a rule."""
        from optbench.rules.optax import OptaxRule

        return OptaxRule(self.transformation(factory, setting, **given))

    def torch_rule(self, method: Callable[..., Any], setting: Setting, **given: Any) -> Rule:
        """The torch.optim optimizer as a rule."""
        from optbench.rules.torch import TorchRule

        return TorchRule(
            lambda named: method(named, self.learning_rate, **self.options(), **given), setting.factor
        )


# --- the fields that most methods have ----------------------------------------------------------------------


def step_size(default: float, low: float) -> Any:
    """A learning rate, swept over the four decades from `low`."""
    return hyper(default, "step size", bounds="(0, inf)", lane=True, sweep=(low, low * 1e4))


def factor() -> Any:
    """The learning rate of a method that finds its own: a factor, swept over two decades to each side of 1."""
    return hyper(
        1.0, "factor of the step size that the method finds", bounds="(0, inf)", lane=True, sweep=(1e-2, 1e2)
    )


def decay(default: float, of: str, search: Search | None = None) -> Any:
    """The decay of a running mean."""
    return hyper(default, f"decay of {of}", bounds="[0, 1)", search=search)


def small(default: float, doc: str = "added to the root") -> Any:
    """A number that keeps a divisor from 0."""
    return hyper(default, doc, bounds="[0, inf)")


def weight_decay(default: float = 0.0, doc: str = "decoupled weight decay") -> Any:
    """A weight decay."""
    return hyper(default, doc, bounds="[0, inf)")
