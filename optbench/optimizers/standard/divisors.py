"""Adam with another divisor than the root of a running mean of squares."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from optbench.fields import MOMENTUM, hyper
from optbench.optimizers.adam import Moments
from optbench.optimizers.adapter import Rate, decay, declared, flag, small, step_size, weight_decay
from optbench.optimizers.leafwise import At, Leafwise, State


@declared(source="arXiv:1904.09237; optax.scale_by_amsgrad, torch.optim.Adam")
class AMSGrad(Moments, arrays=3, elementwise=True):
    """Adam with the largest mean of squares so far.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- max(w, v)
        theta <- theta - learning_rate m / (1 - b1^t) / (sqrt(w / (1 - b2^t)) + eps)

    The maximum is over the uncorrected v, as in torch; `optax.amsgrad` takes it over the corrected one.
    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    """

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        from optbench.optimizers.standard.jax import amsgrad

        return amsgrad(rate, self.b1, self.b2, self.eps)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        return partial(optim.Adam, betas=(self.b1, self.b2), eps=self.eps, amsgrad=True, foreach=True)


@declared(source="arXiv:1412.6980; optax.adamax, torch.optim.Adamax")
class Adamax(Moments, elementwise=True):
    """Adam with a decaying maximum in place of the root of the mean of squares.

        m <- b1 m + (1 - b1) g;  u <- max(b2 u, |g| + eps)
        theta <- theta - learning_rate m / (1 - b1^t) / u

    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    """

    learning_rate: float = step_size(0.002, 1e-4)
    b2: float = decay(0.999, "the maximum")
    eps: float = small(1e-8, "added to the gradient's size")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.adamax(rate, self.b1, self.b2, self.eps)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        return partial(optim.Adamax, betas=(self.b1, self.b2), eps=self.eps, foreach=True)


@declared(source="arXiv:2010.07468; optax.adabelief")
class AdaBelief(Moments, name="adabelief"):
    """Adam that divides by how far gradients fall from their mean.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) (g - m)^2 + eps_root
        theta <- theta - learning_rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)

    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    """

    eps: float = small(1e-16)
    eps_root: float = small(1e-16, "added to the mean of squares at each step")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.adabelief(rate, self.b1, self.b2, self.eps, self.eps_root)


@declared(source="Zaheer et al. 2018 (NeurIPS); torch-optimizer 0.3.0")
class Yogi(Leafwise, arrays=2, elementwise=True):
    """Adam whose mean of squares moves by at most the new square, whatever its size.

    m <- b1 m + (1 - b1) g;  v <- v - (1 - b2) sign(v - g^2) g^2        both from `first`
    theta <- theta - learning_rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
    """

    learning_rate: float = step_size(0.01, 1e-4)
    b1: float = decay(0.9, "the mean of gradients", MOMENTUM)
    b2: float = decay(0.999, "the squares")
    eps: float = small(1e-3)
    first: float = small(1e-6, "what both means start from")
    weight_decay: float = weight_decay(0.0, "weight decay, added to the gradient")

    def start(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        return {name: xp.full(p.shape, self.first, p) for name in ("m", "v")}

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        g = g + self.weight_decay * p
        squares = g * g
        s["m"] = xp.ema(s["m"], g, self.b1)
        s["v"] = s["v"] - (1 - self.b2) * xp.np.sign(s["v"] - squares) * squares
        divisor = (s["v"] / xp.unbias(self.b2, at.t)) ** 0.5 + self.eps
        return -at.lr * s["m"] / xp.unbias(self.b1, at.t) / divisor


@declared(source="arXiv:2110.05454; optax.contrib.acprop")
class AcProp(Moments, name="acprop"):
    """AdaBelief's divisor, one step old, under the gradient itself.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) (g - m_{t-1})^2 + eps_root
        theta <- theta - learning_rate (g / (sqrt(v_{t-1} / (1 - b2^(t-1))) + eps) + weight_decay theta)

    The root of the first step is 1.
    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    """

    eps: float = small(1e-16)
    eps_root: float = small(1e-16, "added to the mean of squares at each step")
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.contrib.acprop(rate, self.b1, self.b2, self.eps, self.eps_root, self.weight_decay)


@declared(source="arXiv:2411.02853; github.com/iShohei220/adopt 6468572")
class Adopt(Leafwise, slots=("m", "v"), elementwise=True):
    """Adam that divides each gradient by the mean of squares before it, then averages: converges for any b2.

        u = clip(g / max(sqrt(v), eps), (t - 1)^clip_power);  m <- b1 m + (1 - b1) u;  v <- b2 v + (1 - b2) g^2
        theta <- theta - learning_rate (m + weight_decay theta)

    The first gradient only sets v. Without `decouple`, weight decay is added to the gradient. These are the defaults of
    the authors, but that their decay is coupled; timm clips to t^0.333.
    """

    learning_rate: float = step_size(0.001, 1e-4)
    b1: float = decay(0.9, "the mean of steps", MOMENTUM)
    b2: float = decay(0.9999, "the mean of squares")
    eps: float = small(1e-6, "least divisor")
    clip_power: float | None = hyper(
        0.25, "entries are at most (t - 1) to this; None: any", bounds="[0, inf)"
    )
    weight_decay: float = weight_decay()
    decouple: bool = flag(True, "decoupled weight decay")

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        coupled, decoupled = (0.0, self.weight_decay) if self.decouple else (self.weight_decay, 0.0)
        g, later = g + coupled * p, at.t > 1
        u = g / xp.at_least(s["v"] ** 0.5, self.eps) * later
        if self.clip_power is not None:
            bound = xp.number(at.t - 1) ** self.clip_power
            u = xp.cast(xp.np.clip(u, -bound, bound), g.dtype)
        s["m"], s["v"] = xp.ema(s["m"], u, self.b1), xp.ema(s["v"], g * g, self.b2 * later)
        return -at.lr * later * (s["m"] + decoupled * p)
