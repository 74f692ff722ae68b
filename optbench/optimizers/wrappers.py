"""What may be around any method, over dicts of arrays by parameter: the same mathematics for both frameworks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import Named, hyper
from optbench.optimizers.standard.adams import corrected
from optbench.optimizers.standard.free import portion

Trees = dict[str, Any]
"""An array for each parameter, by name."""
Again = Callable[[Trees], Trees]
"""The gradient of the step's loss at other parameters."""


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

    def gradients(self, xp: Any, grads: Trees, params: Trees, own: Trees, inner: Any, again: Again) -> Trees:
        """The gradients that the inner method sees; may write into `own`."""
        return grads

    def moved(self, xp: Any, before: Trees, after: Trees, grads: Trees, own: Trees, t: Any, lr: Any) -> Trees:
        """The parameters after the step, from those that the inner method gives; may write into `own`."""
        return after

    def evaluated(self, params: Trees, own: Trees) -> Trees:
        """What is evaluated."""
        return params


@dataclass(frozen=True, kw_only=True)
class Cautious(Wrapper, takes_decay=True, source="arXiv:2411.16085; github.com/kyleliang919/C-Optim 2c0517c"):
    """Entries of the step that go up along their gradient are left out, the others lengthened.

        mask = [u g < 0];  u <- u mask / max(mean(mask), 1e-3)        for the update u, by leaf

    `scale='count'`: times n / (1 + sum(mask)). The inner method's decoupled weight decay stays, before the step.
    """

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
class Mars(
    Wrapper, arrays=1, changes_gradients=True, source="arXiv:2411.10438; github.com/AGI-Arena/MARS 4831e28"
):
    """Variance reduction: each gradient plus some of its change since the last batch.

    c = g + gamma b1 / (1 - b1) (g_t - g_{t-1});  c <- c / max(1, |c|)        by leaf; b1 of the inner method
    """

    gamma: float = hyper(0.025, "weight of the change", bounds="[0, inf)")

    def start(self, xp: Any, params: Trees) -> Trees:
        return {"last": {name: xp.zeros(p) for name, p in params.items()}}

    def gradients(self, xp: Any, grads: Trees, params: Trees, own: Trees, inner: Any, again: Again) -> Trees:
        b1, last = getattr(inner, "b1", 0.9), own["last"]
        own["last"] = grads
        return {name: corrected(xp, g, last[name], self.gamma, b1) for name, g in grads.items()}


@dataclass(frozen=True, kw_only=True)
class Clip(Wrapper, changes_gradients=True, source="arXiv:1211.5063"):
    """All gradients scaled to a norm where theirs is larger.

    g <- g min(1, norm / |g|)
    """

    norm: float = hyper(1.0, "largest norm", bounds="(0, inf)")

    def gradients(self, xp: Any, grads: Trees, params: Trees, own: Trees, inner: Any, again: Again) -> Trees:
        scale = self.norm / xp.at_least(norm_of(xp, grads), self.norm)
        return {name: g * xp.cast(scale, g.dtype) for name, g in grads.items()}


@dataclass(frozen=True, kw_only=True)
class Sam(Wrapper, changes_gradients=True, gradients_more=1, source="arXiv:2010.01412"):
    """Sharpness-aware: the gradient a little uphill, a second one each step.

    g <- gradient at theta + rho g / |g|
    """

    rho: float = hyper(0.05, "how far up the gradient", bounds="(0, inf)")

    def gradients(self, xp: Any, grads: Trees, params: Trees, own: Trees, inner: Any, again: Again) -> Trees:
        scale = self.rho / xp.at_least(norm_of(xp, grads), 1e-12)
        return again({name: p + xp.cast(scale, p.dtype) * grads[name] for name, p in params.items()})


@dataclass(frozen=True, kw_only=True)
class Averaged(Wrapper, arrays=1, averages=True):
    """One that evaluates other parameters, which it keeps beside those that are trained and which start as they do."""

    def start(self, xp: Any, params: Trees) -> Trees:
        return {"kept": {name: xp.copy(p) for name, p in params.items()}}

    def evaluated(self, params: Trees, own: Trees) -> Trees:
        return own["kept"]


@dataclass(frozen=True, kw_only=True)
class Lookahead(Averaged, source="arXiv:1907.08610"):
    """Slow parameters follow the fast ones, which start from them again; the slow ones are evaluated.

    slow <- slow + alpha (theta - slow);  theta <- slow        every `steps` steps
    """

    steps: int = hyper(5, "steps between", bounds="[1, inf)")
    alpha: float = hyper(0.5, "how far the slow ones go", bounds="(0, 1]")

    def moved(self, xp: Any, before: Trees, after: Trees, grads: Trees, own: Trees, t: Any, lr: Any) -> Trees:
        due = (t + 1) % self.steps == 0
        slow = {
            name: xp.where(due, held + self.alpha * (after[name] - held), held)
            for name, held in own["kept"].items()
        }
        own["kept"] = slow
        return {name: xp.where(due, slow[name], p) for name, p in after.items()}


@dataclass(frozen=True, kw_only=True)
class Ema(Averaged, source="Polyak and Juditsky 1992, doi:10.1137/0330046"):
    """A running mean of the parameters is evaluated.

    mean <- decay mean + (1 - decay) theta        from theta_0
    """

    decay: float = hyper(0.99, "decay of the mean", bounds="[0, 1)")

    def moved(self, xp: Any, before: Trees, after: Trees, grads: Trees, own: Trees, t: Any, lr: Any) -> Trees:
        own["kept"] = {name: xp.ema(mean, after[name], self.decay) for name, mean in own["kept"].items()}
        return after


@dataclass(frozen=True, kw_only=True)
class ScheduleFree(Wrapper, arrays=1, averages=True, source="arXiv:2405.15682"):
    """The inner method's steps move z; theta = y lies between z and its average x, which is evaluated.

        z <- z + u;  x <- (1 - c) x + c z;  y = beta x + (1 - beta) z;  c = w_t / sum w

    w is the square of the largest learning rate so far. The inner method sees y; made for one without momentum
    of its own (`adamw[b1=0]+schedule_free`).
    """

    beta: float = hyper(0.9, "weight of the average where gradients are taken", bounds="(0, 1)")

    def start(self, xp: Any, params: Trees) -> Trees:
        zero = xp.full((), 0, next(iter(params.values())))
        return {"z": {name: xp.copy(p) for name, p in params.items()}, "most": zero, "sum": zero}

    def moved(self, xp: Any, before: Trees, after: Trees, grads: Trees, own: Trees, t: Any, lr: Any) -> Trees:
        own["most"] = xp.at_least(own["most"], lr)
        own["sum"], part = portion(xp, own["sum"], own["most"] ** 2)
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
