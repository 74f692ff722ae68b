"""Methods around any method: `adamw+cautious`, `muon+schedule_free`, `soap+mars[gamma=0.05]+ema`.

The mathematics is written once, over dicts of arrays by parameter, for both frameworks. `around` (in
`optbench.rules.around`) makes a rule of it: what changes the gradients before the inner step, what changes the
parameters after it, and where they are evaluated.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from optbench.fields import Named, Search, UserError, from_text, hyper
from optbench.optimizer import Optimizer
from optbench.protocol import Rule, Setting, Shapes, size

Trees = dict[str, Any]
"""An array for each parameter, by name."""


@dataclass(frozen=True, kw_only=True)
class Wrapper(Named):
    """What is put around a method. `own` is its state: arrays and dicts of arrays."""

    kind: ClassVar[str] = "wrapper"
    source: ClassVar[str] = ""
    arrays: ClassVar[int] = 0
    """How many arrays as large as the parameters it keeps."""
    gradients_more: ClassVar[int] = 0
    """How many gradients a step takes beside the method's own."""
    changes_gradients: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    """Whether other parameters are evaluated than those that are trained."""
    takes_decay: ClassVar[bool] = False
    """Whether it does the inner method's decoupled weight decay itself, so as not to change it."""

    def start(self, xp: Any, params: Trees) -> Trees:
        """The state before the first step."""
        return {}

    def gradients(
        self, xp: Any, grads: Trees, params: Trees, own: Trees, inner: Optimizer, again: Again
    ) -> Trees:
        """The gradients that the inner method sees; may write into `own`."""
        return grads

    def moved(self, xp: Any, before: Trees, after: Trees, grads: Trees, own: Trees, t: Any, lr: Any) -> Trees:
        """The parameters after the step, from those that the inner method gives; may write into `own`."""
        return after

    def evaluated(self, params: Trees, own: Trees) -> Trees:
        """What is evaluated."""
        return params


Again = Callable[[Trees], Trees]
"""The gradient of the step's loss at other parameters."""


@dataclass(frozen=True, kw_only=True)
class Cautious(Wrapper):
    """Entries of the step that go up along their gradient are left out, the others lengthened.

    mask = [u g < 0] for the update u;  u <- u mask / max(mean(mask), 1e-3), by leaf; `scale='count'`: times
    n / (1 + sum(mask)). The inner method's decoupled weight decay stays as it is, before the step.
    """

    source: ClassVar[str] = "arXiv:2411.16085; github.com/kyleliang919/C-Optim 2c0517c"
    takes_decay: ClassVar[bool] = True

    scale: str = hyper("mean", "how the rest is lengthened", choices=("mean", "count"))

    def moved(self, xp: Any, before: Trees, after: Trees, grads: Trees, own: Trees, t: Any, lr: Any) -> Trees:
        def masked(name: str) -> Any:
            u = after[name] - before[name]
            mask = xp.cast(u * grads[name] < 0, u.dtype)
            if self.scale == "mean":
                return before[name] + u * (mask / xp.at_least(mask.mean(), 1e-3))
            return before[name] + u * (mask * (math.prod(mask.shape) / (mask.sum() + 1)))

        return {name: masked(name) for name in after}


@dataclass(frozen=True, kw_only=True)
class Mars(Wrapper):
    """Variance reduction: each gradient plus some of its change since the last batch.

    c = g + gamma b1 / (1 - b1) (g_t - g_{t-1});  c <- c / max(1, |c|) for each leaf;  b1 is the inner method's
    """

    source: ClassVar[str] = "arXiv:2411.10438; github.com/AGI-Arena/MARS 4831e28"
    arrays: ClassVar[int] = 1
    changes_gradients: ClassVar[bool] = True

    gamma: float = hyper(0.025, "weight of the change", bounds="[0, inf)")

    def start(self, xp: Any, params: Trees) -> Trees:
        return {"last": {name: xp.zeros(p) for name, p in params.items()}}

    def gradients(
        self, xp: Any, grads: Trees, params: Trees, own: Trees, inner: Optimizer, again: Again
    ) -> Trees:
        b1 = getattr(inner, "b1", 0.9)
        found = {}
        for name, g in grads.items():
            c = g + self.gamma * b1 / (1 - b1) * (g - own["last"][name])
            found[name] = c / xp.cast(xp.at_least(xp.norm(c), 1), c.dtype)
        own["last"] = grads
        return found


@dataclass(frozen=True, kw_only=True)
class Clip(Wrapper):
    """All gradients scaled to a norm where theirs is larger: g <- g min(1, norm / |g|)."""

    source: ClassVar[str] = "arXiv:1211.5063"
    changes_gradients: ClassVar[bool] = True

    norm: float = hyper(1.0, "largest norm", bounds="(0, inf)")

    def gradients(
        self, xp: Any, grads: Trees, params: Trees, own: Trees, inner: Optimizer, again: Again
    ) -> Trees:
        scale = self.norm / xp.at_least(norm_of(xp, grads), self.norm)
        return {name: g * xp.cast(scale, g.dtype) for name, g in grads.items()}


@dataclass(frozen=True, kw_only=True)
class Sam(Wrapper):
    """Sharpness-aware: the gradient at theta + rho g / |g|, a second gradient each step."""

    source: ClassVar[str] = "arXiv:2010.01412"
    changes_gradients: ClassVar[bool] = True
    gradients_more: ClassVar[int] = 1

    rho: float = hyper(0.05, "how far up the gradient", bounds="(0, inf)")

    def gradients(
        self, xp: Any, grads: Trees, params: Trees, own: Trees, inner: Optimizer, again: Again
    ) -> Trees:
        scale = self.rho / xp.at_least(norm_of(xp, grads), 1e-12)
        return again({name: p + xp.cast(scale, p.dtype) * grads[name] for name, p in params.items()})


@dataclass(frozen=True, kw_only=True)
class Lookahead(Wrapper):
    """Every `steps` steps, slow <- slow + alpha (theta - slow), theta <- slow; the slow ones are evaluated."""

    source: ClassVar[str] = "arXiv:1907.08610"
    arrays: ClassVar[int] = 1
    averages: ClassVar[bool] = True

    steps: int = hyper(5, "steps between", bounds="[1, inf)")
    alpha: float = hyper(0.5, "how far the slow ones go", bounds="(0, 1]")

    def start(self, xp: Any, params: Trees) -> Trees:
        return {"slow": {name: xp.copy(p) for name, p in params.items()}}

    def moved(self, xp: Any, before: Trees, after: Trees, grads: Trees, own: Trees, t: Any, lr: Any) -> Trees:
        due = (t + 1) % self.steps == 0
        slow = {
            name: xp.where(due, held + self.alpha * (after[name] - held), held)
            for name, held in own["slow"].items()
        }
        own["slow"] = slow
        return {name: xp.where(due, slow[name], p) for name, p in after.items()}

    def evaluated(self, params: Trees, own: Trees) -> Trees:
        return own["slow"]


@dataclass(frozen=True, kw_only=True)
class Ema(Wrapper):
    """A running mean of the parameters is evaluated: mean <- decay mean + (1 - decay) theta, from theta_0."""

    source: ClassVar[str] = "Polyak and Juditsky 1992, doi:10.1137/0330046"
    arrays: ClassVar[int] = 1
    averages: ClassVar[bool] = True

    decay: float = hyper(0.99, "decay of the mean", bounds="[0, 1)")

    def start(self, xp: Any, params: Trees) -> Trees:
        return {"mean": {name: xp.copy(p) for name, p in params.items()}}

    def moved(self, xp: Any, before: Trees, after: Trees, grads: Trees, own: Trees, t: Any, lr: Any) -> Trees:
        own["mean"] = {name: xp.ema(mean, after[name], self.decay) for name, mean in own["mean"].items()}
        return after

    def evaluated(self, params: Trees, own: Trees) -> Trees:
        return own["mean"]


@dataclass(frozen=True, kw_only=True)
class ScheduleFree(Wrapper):
    """The inner method's steps move z; theta = y lies between z and its average x, which is evaluated.

    z <- z + u;  x <- (1 - c) x + c z;  y = beta x + (1 - beta) z;  c = w_t / sum w, w the largest learning rate so far
    squared. The inner method sees y; made for one without momentum of its own (`adamw[b1=0]+schedule_free`).
    """

    name: ClassVar[str] = "schedule_free"
    source: ClassVar[str] = "arXiv:2405.15682"
    arrays: ClassVar[int] = 1
    averages: ClassVar[bool] = True

    beta: float = hyper(0.9, "weight of the average where gradients are taken", bounds="(0, 1)")

    def start(self, xp: Any, params: Trees) -> Trees:
        first = next(iter(params.values()))
        zero = xp.full((), 0, first)
        return {"z": {name: xp.copy(p) for name, p in params.items()}, "most": zero, "sum": zero}

    def moved(self, xp: Any, before: Trees, after: Trees, grads: Trees, own: Trees, t: Any, lr: Any) -> Trees:
        own["most"] = xp.at_least(own["most"], lr)
        weight = own["most"] ** 2
        own["sum"] = own["sum"] + weight
        part = weight / xp.where(own["sum"] > 0, own["sum"], 1 + own["sum"])
        z = {name: held + after[name] - before[name] for name, held in own["z"].items()}
        moved = {}
        for name, y in before.items():
            x = (y - (1 - self.beta) * own["z"][name]) / self.beta
            x = x + part * (z[name] - x)
            moved[name] = self.beta * x + (1 - self.beta) * z[name]
        own["z"] = z
        return moved

    def evaluated(self, params: Trees, own: Trees) -> Trees:
        return {name: (y - (1 - self.beta) * own["z"][name]) / self.beta for name, y in params.items()}


def norm_of(xp: Any, trees: Trees) -> Any:
    return sum(xp.total(each * each) for each in trees.values()) ** 0.5


WRAPPERS: Mapping[str, Wrapper] = {
    each.name: each() for each in (Cautious, Mars, Clip, Sam, Lookahead, Ema, ScheduleFree)
}


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
        for name in ("order", "parity", "grows", "finds_step"):
            object.__setattr__(self, name, getattr(inner, name))
        own = wrapper.name != "schedule_free"
        object.__setattr__(self, "proportional", inner.proportional and own)
        object.__setattr__(self, "name", f"{inner.name}+{wrapper.name}")
        object.__setattr__(self, "source", f"{inner.source}; {wrapper.source}")
        more = f" + {wrapper.arrays}n" if wrapper.arrays else ""
        object.__setattr__(self, "memory", f"{inner.memory}{more}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "inner" not in vars(self):
            raise AttributeError(name)
        return getattr(vars(self)["inner"], name)

    def __reduce__(self) -> Any:
        return composed, (self.inner, self.wrapper)

    def over(self, inner: Optimizer) -> Self:
        return type(self)(inner=inner, wrapper=self.wrapper)

    def spec(self) -> dict[str, Any]:
        own = {f"{self.wrapper.name}.{f.name}": getattr(self.wrapper, f.name) for f in fields(self.wrapper)}
        return {**self.inner.spec(), **own, "name": self.name}

    def label(self) -> str:
        return f"{self.inner.label()}+{self.wrapper.label()}"

    def made_of(self) -> tuple[Any, ...]:
        return self.inner.made_of()

    def modules(self) -> tuple[str, ...]:
        return (*super().modules(), *self.inner.modules())

    def replace(self, **changes: Any) -> Self:
        return self.over(self.inner.replace(**changes))

    def frameworks(self) -> tuple[str, ...]:
        return self.inner.frameworks()

    def state_floats(self, shapes: Shapes) -> int | None:
        inner = self.inner.state_floats(shapes)
        return None if inner is None else inner + self.wrapper.arrays * size(shapes)

    def vectorizes(self, shapes: Shapes) -> bool:
        return self.inner.vectorizes(shapes)

    def due_hvps(self, steps: int) -> int:
        return self.inner.due_hvps(steps)

    def swept(self) -> dataclasses.Field | None:
        return self.inner.swept()

    def trials(self, count: int) -> list[Any]:
        return [self.over(inner) for inner in self.inner.trials(count)]

    def searched(self) -> dict[str, Search]:
        return self.inner.searched()

    def at(self, place: Sequence[float]) -> Self:
        return self.over(self.inner.at(place))

    def lane_numbers(self) -> dict[str, float]:
        return self.inner.lane_numbers()

    def bind(self, numbers: Mapping[str, Any]) -> Self:
        bound = object.__new__(type(self))
        vars(bound).update(vars(self), inner=self.inner.bind(numbers))
        return bound

    def jax(self, setting: Setting) -> Rule:
        from optbench.optimizers.leafwise import jax_arrays
        from optbench.rules.around import Around

        inner, decay = self.without_decay()
        return Around(jax_arrays, self.wrapper, inner, inner.jax(setting), self.rate(setting), decay)

    def torch(self, setting: Setting) -> Rule:
        from optbench.optimizers.leafwise import torch_arrays
        from optbench.rules.around import TorchAround

        inner, decay = self.without_decay()
        return TorchAround(torch_arrays, self.wrapper, inner, inner.torch(setting), self.rate(setting), decay)

    def rate(self, setting: Setting) -> Callable[[Any], Any]:
        learning_rate = getattr(self.inner, "learning_rate", 1.0)
        return lambda t: learning_rate * setting.factor(t)

    def without_decay(self) -> tuple[Optimizer, float]:
        """The method without the decoupled weight decay that the wrapper does in its place, and that."""
        known = {f.name: f for f in fields(self.inner)}.get("weight_decay")
        if not self.wrapper.takes_decay or known is None or not known.metadata.get("decoupled"):
            return self.inner, 0.0
        return self.inner.bind({"weight_decay": 0.0}), self.inner.weight_decay  # pyright: ignore


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


def composed(inner: Optimizer, wrapper: Wrapper) -> Composed:
    return Composed(inner=inner, wrapper=wrapper)


def wrapped(inner: Optimizer, texts: Sequence[str]) -> Optimizer:
    """A method inside wrappers, the first of them innermost; each as `name[field=value]`."""
    for text in texts:
        inner = composed(inner, from_text("wrapper", text, WRAPPERS))
    return inner


if TYPE_CHECKING:  # what a method imports when it runs; the digest of the code reads it here
    from optbench.rules import around  # noqa: F401
