"""Methods around any method: `adamw+cautious`, `muon+schedule_free`, `soap+mars[gamma=0.05]+ema`.

The mathematics is in `optbench.optimizers.wrappers`; `optbench.rules.around` makes a rule of it: what changes the
gradients before the inner step, what changes the parameters after it, and where they are evaluated.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from optbench.fields import UserError, from_text
from optbench.optimizer import Optimizer
from optbench.optimizers.wrappers import WRAPPERS, Wrapper
from optbench.protocol import Rule, Setting, Shapes, size


def of_inner(name: str) -> Any:
    """A method of `Composed` that is the inner one's."""

    @functools.wraps(getattr(Optimizer, name))
    def method(self: Any, *given: Any, **named: Any) -> Any:
        return getattr(self.inner, name)(*given, **named)

    return method


@dataclass(frozen=True, kw_only=True)
class Composed(Optimizer):
    """A method with a wrapper around it; what is not the wrapper's it has from the method."""

    inner: Optimizer
    wrapper: Wrapper

    def __post_init__(self) -> None:
        inner, wrapper = self.inner, self.wrapper
        reason = why_not(inner, wrapper)
        if reason:
            raise UserError(f"{inner.name}+{wrapper.name}: {reason}")
        facts = {name: getattr(inner, name) for name in ("order", "parity", "grows", "finds_step")}
        more = f" + {wrapper.arrays}n" if wrapper.arrays else ""
        vars(self).update(
            facts,
            proportional=inner.proportional and wrapper.name != "schedule_free",
            name=f"{inner.name}+{wrapper.name}",
            source=f"{inner.source}; {wrapper.source}",
            memory=f"{inner.memory}{more}",
        )

    frameworks = of_inner("frameworks")
    vectorizes = of_inner("vectorizes")
    due_hvps = of_inner("due_hvps")
    swept = of_inner("swept")
    searched = of_inner("searched")
    lane_defaults = of_inner("lane_defaults")
    lane_numbers = of_inner("lane_numbers")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "inner" not in vars(self):
            raise AttributeError(name)
        return getattr(vars(self)["inner"], name)

    def over(self, inner: Optimizer) -> Self:
        return type(self)(inner=inner, wrapper=self.wrapper)

    def spec(self) -> dict[str, Any]:
        own = {f"{self.wrapper.name}.{key}": value for key, value in self.wrapper.spec().items()}
        del own[f"{self.wrapper.name}.name"]
        return {**self.inner.spec(), **own, "name": self.name}

    def made_of(self) -> tuple[Any, ...]:
        return (*self.inner.made_of(), type(self.wrapper))

    def label(self) -> str:
        return f"{self.inner.label()}+{self.wrapper.label()}"

    def modules(self) -> tuple[str, ...]:
        return (*super().modules(), *self.inner.modules())

    def replace(self, **changes: Any) -> Self:
        return self.over(self.inner.replace(**changes))

    def state_floats(self, shapes: Shapes) -> int | None:
        inner = self.inner.state_floats(shapes)
        return None if inner is None else inner + self.wrapper.arrays * size(shapes)

    def at(self, place: Sequence[float]) -> Self:
        return self.over(self.inner.at(place))

    def trials(self, count: int) -> list[Any]:
        return [self.over(inner) for inner in self.inner.trials(count)]

    def at_defaults(self) -> Self:
        return self.over(self.inner.at_defaults())

    def bind(self, numbers: Mapping[str, Any]) -> Self:
        bound = object.__new__(type(self))
        vars(bound).update(vars(self), inner=self.inner.bind(numbers))
        return bound

    def jax(self, setting: Setting) -> Rule:
        from optbench.optimizers.leafwise import jax_arrays
        from optbench.rules.around import Around

        return Around(jax_arrays, *self.parts("jax", setting))

    def torch(self, setting: Setting) -> Rule:
        from optbench.optimizers.leafwise import torch_arrays
        from optbench.rules.around import TorchAround

        return TorchAround(torch_arrays, *self.parts("torch", setting))

    def parts(self, framework: str, setting: Setting) -> tuple[Any, ...]:
        """The wrapper, the method and its rule, the learning rate, and the decoupled weight decay.

        A wrapper that does the decay in the method's place gets a method without it.
        """
        inner, decay, rate = self.inner, 0.0, getattr(self.inner, "learning_rate", 1.0)
        known = {f.name: f for f in fields(inner)}.get("weight_decay")
        if self.wrapper.takes_decay and known is not None and known.metadata.get("decoupled"):
            decay = inner.weight_decay  # pyright: ignore[reportAttributeAccessIssue]
            inner = inner.bind({"weight_decay": 0.0})
        rule = getattr(inner, framework)(setting)
        return self.wrapper, inner, rule, lambda t: rate * setting.factor(t), decay


def why_not(inner: Optimizer, wrapper: Wrapper) -> str:
    """A sentence where the two do not fit together."""
    if getattr(inner, "closes", False):
        return "its line search needs the loss and gradient as they are, many times a step."
    if inner.order == 2 and wrapper.changes_gradients:
        return (
            "its products with the Hessian belong to the gradient as it is; cautious, ema and lookahead fit."
        )
    inside: Any = inner.wrapper if isinstance(inner, Composed) else inner
    if wrapper.averages and getattr(inside, "averages", False):
        return f"both decide where the parameters are evaluated. Take {inner.name} alone."
    return ""


def wrapped(inner: Optimizer, texts: Sequence[str]) -> Optimizer:
    """A method inside wrappers, the first of them innermost; each as `name[field=value]`."""
    for text in texts:
        inner = Composed(inner=inner, wrapper=from_text("wrapper", text, WRAPPERS))
    return inner
