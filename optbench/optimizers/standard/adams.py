"""Adam with another step: looking ahead, rectified, of several means, of corrected gradients; or another divisor."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from optbench.fields import MOMENTUM, Search, hyper
from optbench.optimizers.adam import Moments
from optbench.optimizers.adapter import Rate, Standard, decay, declared, flag, small, step_size, weight_decay
from optbench.optimizers.leafwise import At, Clipping, Leafwise, State
from optbench.optimizers.standard.spectral import orthogonal
from optbench.protocol import Shapes, size


@declared(source="Dozat 2016; optax.nadamw, torch.optim.NAdam")
class NAdam(Moments, optax="nadamw", elementwise=True):
    """Adam that looks ahead as Nesterov's momentum does; weight decay is decoupled.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
        n = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t)
        theta <- theta - learning_rate (n / (sqrt(v / (1 - b2^t)) + eps) + weight_decay theta)

    The momentum is constant, as in optax; torch's own lets b1 rise over the first thousand steps
    (`momentum_decay`), which `torch:NAdam` gives.
    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    """

    learning_rate: float = step_size(0.002, 1e-4)
    weight_decay: float = weight_decay()

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        """torch.optim.NAdam; 0.96 to an infinite power is 0, and the momentum b1 from the first step."""
        from optbench.optimizers.standard.torch import nadam

        options = {"eps": self.eps, "weight_decay": self.weight_decay, "decoupled_weight_decay": True}
        return partial(nadam, betas=(self.b1, self.b2), momentum_decay=float("inf"), **options, foreach=True)


@declared(source="arXiv:1908.03265; as optax.radam, torch.optim.RAdam")
class RAdam(Moments, elementwise=True):
    """Adam that steps along its momentum until the variance of its divisor can be reckoned, then rectifies it.

        p = 2 / (1 - b2) - 1;  p_t = p - 2 t b2^t / (1 - b2^t);  m and v as Adam's
        r = sqrt((p_t - 4) (p_t - 2) p / ((p - 4) (p - 2) p_t))
        theta <- theta - learning_rate r m / (1 - b1^t) sqrt(1 - b2^t) / (sqrt(v) + eps)    if p_t > 5
        theta <- theta - learning_rate m / (1 - b1^t)                                       else

    eps stands beside the uncorrected root, as in torch; `optax.radam` has it beside the corrected one, and loses
    r to rounding in float32.
    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    """

    b2: float = hyper(0.999, "decay of the mean of squares", bounds="(0.6, 1)")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        from optbench.optimizers.standard.jax import radam

        return radam(rate, self.b1, self.b2, self.eps)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        return partial(optim.RAdam, betas=(self.b1, self.b2), eps=self.eps, foreach=True)


@declared(source="arXiv:2208.06677")
class Adan(Clipping, slots=("m", "v", "n", "last"), elementwise=True):
    """Nesterov's momentum as three means: of gradients, of their differences, of the squares of both.

        d = g_t - g_{t-1};  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) d        d = 0 at t = 1
        n <- b3 n + (1 - b3) (g + b2 d)^2
        u = (m / (1 - b1^t) + b2 v / (1 - b2^t)) / (sqrt(n / (1 - b3^t)) + eps)
        theta <- (theta - learning_rate u) / (1 + learning_rate weight_decay)

    Without `prox`, theta <- theta - learning_rate (u + weight_decay theta). The decays are one minus the paper's.
    `optax.adan` weighs the differences by 1 - b2.
    """

    learning_rate: float = step_size(0.001, 1e-4)
    b1: float = decay(0.98, "the mean of gradients", MOMENTUM)
    b2: float = decay(0.92, "the mean of differences")
    b3: float = decay(0.99, "the mean of squares")
    eps: float = small(1e-8)
    weight_decay: float = weight_decay()
    prox: bool = flag(True, "decay by division")
    max_grad_norm: float | None = hyper(None, "largest norm of all gradients; None: any", bounds="(0, inf)")

    def clip_eps(self) -> float:
        return self.eps

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        g = xp.cast(g * at.shared["clip"], g.dtype)
        d = (g - s["last"]) * (at.t > 1)
        s["m"], s["v"] = xp.ema(s["m"], g, self.b1), xp.ema(s["v"], d, self.b2)
        s["n"], s["last"] = xp.ema(s["n"], (g + self.b2 * d) ** 2, self.b3), g
        ahead = s["m"] / xp.unbias(self.b1, at.t) + self.b2 / xp.unbias(self.b2, at.t) * s["v"]
        u = ahead / ((s["n"] / xp.unbias(self.b3, at.t)) ** 0.5 + self.eps)
        if self.prox:
            return (p - at.lr * u) / (1 + at.lr * self.weight_decay) - p
        return -at.lr * (u + self.weight_decay * p)


@declared(source="arXiv:1711.00141; optax.optimistic_adam_v2")
class OptimisticAdam(Standard, optax="optimistic_adam_v2", arrays=3):
    """Adam's step plus how it changed; made for games.

        u = Adam(g)        Adam's step, with Nesterov's look ahead
        theta <- theta - learning_rate ((alpha + beta) u_t - beta u_{t-1})

    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    """

    learning_rate: float = step_size(0.001, 1e-4)
    alpha: float = hyper(1.0, "weight of the step", bounds="(0, inf)")
    beta: float = hyper(1.0, "weight of its change", bounds="[0, inf)")
    b1: float = decay(0.9, "the mean of gradients", MOMENTUM)
    b2: float = decay(0.999, "the mean of squares")
    eps: float = small(1e-8)


@declared(source="arXiv:2409.03137; github.com/apple/ml-ademamix c3d73c0")
class AdEMAMix(Leafwise, name="ademamix", slots=("m", "s", "v"), elementwise=True):
    """Adam with a second, much slower mean of gradients added.

        m <- b1 m + (1 - b1) g;  s <- b3 s + (1 - b3) g;  v <- b2 v + (1 - b2) g^2
        theta <- theta - learning_rate ((m / (1 - b1^t) + alpha s) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay theta)

    alpha rises linearly over `alpha_warmup` steps, b3 from b1 over `b3_warmup` steps so that the half-life of its
    mean does; the paper advises the length of the training for both. 0: constant.
    """

    learning_rate: float = step_size(0.001, 1e-5)
    b1: float = decay(0.9, "the fast mean of gradients", MOMENTUM)
    b2: float = decay(0.999, "the mean of squares")
    b3: float = decay(0.9999, "the slow mean of gradients")
    alpha: float = hyper(5.0, "weight of the slow mean", bounds="[0, inf)")
    alpha_warmup: int = hyper(0, "steps over which alpha rises", bounds="[0, inf)")
    b3_warmup: int = hyper(0, "steps over which b3 rises from b1", bounds="[0, inf)")
    eps: float = small(1e-8)
    weight_decay: float = weight_decay()

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        alpha, b3 = self.alpha, self.b3
        if self.alpha_warmup:
            alpha = alpha * xp.at_most(xp.number(at.t) / self.alpha_warmup, 1)
        if self.b3_warmup:
            part = xp.at_most(xp.number(at.t) / self.b3_warmup, 1)
            lives = (1 - part) * half_life(xp, self.b1) + part * half_life(xp, self.b3)
            b3 = xp.where(part < 1, 0.5 ** (1 / (lives + 1)), b3)
        s["m"], s["s"] = xp.ema(s["m"], g, self.b1), xp.ema(s["s"], g, b3)
        s["v"] = xp.ema(s["v"], g * g, self.b2)
        divisor = (s["v"] / xp.unbias(self.b2, at.t)) ** 0.5 + self.eps
        u = (s["m"] / xp.unbias(self.b1, at.t) + alpha * s["s"]) / divisor
        return -at.lr * (u + self.weight_decay * p)


def half_life(xp: Any, decay: Any) -> Any:
    """Steps after which a gradient's weight in a mean is half, less one; 1e-8 as in the original, for a decay of 0."""
    return math.log(0.5) / xp.log(decay + 1e-8) - 1


@declared(source="arXiv:2502.02431; optax.contrib.simplified_ademamix")
class SimplifiedAdEMAMix(Standard, name="simplified_ademamix", optax="contrib.simplified_ademamix", arrays=2):
    """Adam with a sum in place of the mean of gradients, and the gradient itself added.

        m <- b1 m + g;  v <- b2 v + (1 - b2) g^2
        theta <- theta - learning_rate ((m + alpha g) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay theta)

    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    For real parameters: the square of a complex gradient would be g^2, not |g|^2.
    """

    learning_rate: float = step_size(1e-4, 1e-5)
    b1: float = decay(0.99, "the sum of gradients", Search(0.001, 0.1, complement=True))
    b2: float = decay(0.95, "the mean of squares")
    alpha: float = hyper(0.0, "weight of the gradient", bounds="[0, inf)")
    eps: float = small(1e-8)
    weight_decay: float = weight_decay()


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
class Adamax(Moments, optax="adamax", elementwise=True):
    """Adam with a decaying maximum in place of the root of the mean of squares.

        m <- b1 m + (1 - b1) g;  u <- max(b2 u, |g| + eps)
        theta <- theta - learning_rate m / (1 - b1^t) / u

    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    """

    learning_rate: float = step_size(0.002, 1e-4)
    b2: float = decay(0.999, "the maximum")
    eps: float = small(1e-8, "added to the gradient's size")

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        return partial(optim.Adamax, betas=(self.b1, self.b2), eps=self.eps, foreach=True)


@declared(source="arXiv:2010.07468; optax.adabelief")
class AdaBelief(Moments, name="adabelief", optax="adabelief"):
    """Adam that divides by how far gradients fall from their mean.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) (g - m)^2 + eps_root
        theta <- theta - learning_rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)

    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    """

    eps: float = small(1e-16)
    eps_root: float = small(1e-16, "added to the mean of squares at each step")


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
class AcProp(Moments, name="acprop", optax="contrib.acprop"):
    """AdaBelief's divisor, one step old, under the gradient itself.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) (g - m_{t-1})^2 + eps_root
        theta <- theta - learning_rate (g / (sqrt(v_{t-1} / (1 - b2^(t-1))) + eps) + weight_decay theta)

    The root of the first step is 1.
    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    """

    eps: float = small(1e-16)
    eps_root: float = small(1e-16, "added to the mean of squares at each step")
    weight_decay: float = weight_decay()


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


def corrected(xp: Any, g: Any, last: Any, gamma: float, b1: Any) -> Any:
    """c / max(1, |c|) of c = g + gamma b1 / (1 - b1) (g - last)."""
    c = g + gamma * b1 / (1 - b1) * (g - last)
    return c / xp.cast(xp.at_least(xp.norm(c), 1), c.dtype)


@declared(source="arXiv:2411.10438; github.com/AGI-Arena/MARS 4831e28")
class MARS(Leafwise, arrays=3, stacks=True):
    """Variance reduction: each gradient plus some of its change, then AdamW, Lion or Muon's step.

        c = g + gamma b1 / (1 - b1) (g_t - g_{t-1});  c <- c / max(1, |c|)        for each leaf
        m <- b1 m + (1 - b1) c,  v <- b2 v + (1 - b2) c^2
        u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)    'lion': sign(m); 'shampoo': matrices by Newton and Schulz
        theta <- theta - learning_rate (u + weight_decay theta)

    g_{t-1} is that of the batch before, as in the original's approximate form. What has not two axes goes by AdamW
    with the numbers `..._1d` and its plain gradient, unless `optimize_1d`.
    """

    learning_rate: float = step_size(0.003, 1e-4)
    b1: float = decay(0.95, "the mean of gradients", MOMENTUM)
    b2: float = decay(0.99, "the mean of squares")
    gamma: float = hyper(0.025, "weight of the change of the gradient", bounds="[0, inf)")
    eps: float = small(1e-8)
    weight_decay: float = weight_decay()
    base: str = hyper("adamw", "the step", choices=("adamw", "lion", "shampoo"))
    amsgrad: bool = flag(False, "divide by the largest mean of squares so far")
    optimize_1d: bool = flag(False, "treat everything alike")
    scale_1d: float = hyper(1.0, "learning rate of vectors relative to learning_rate", bounds="(0, inf)")
    b1_1d: float = decay(0.9, "the mean of gradients of vectors")
    b2_1d: float = decay(0.95, "the mean of squares of vectors")
    weight_decay_1d: float = hyper(0.1, "decoupled weight decay of vectors", bounds="[0, inf)")

    def start(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        names = ("m", "v", "last", *["largest"] * self.amsgrad)
        return {name: xp.zeros(p) for name in names}

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        full = p.ndim == 2 or self.optimize_1d
        b1, b2 = (self.b1, self.b2) if full else (self.b1_1d, self.b2_1d)
        lr = at.lr if full else at.lr * self.scale_1d
        c = corrected(xp, g, s["last"], self.gamma, b1) if full else g
        s["last"], s["m"] = xp.copy(g), xp.ema(s["m"], c, b1)
        base = self.base if full and (p.ndim == 2 or self.base == "lion") else "adamw"
        if base == "lion":
            u = xp.np.sign(s["m"])
        elif base == "shampoo":
            tall = max(1, p.shape[0] / p.shape[1]) ** 0.5
            u = tall * orthogonal(xp, s["m"] / (1 - b1), eps=self.eps)
        else:
            s["v"] = divisor = xp.ema(s["v"], c * c, b2)
            if self.amsgrad:
                s["largest"] = divisor = xp.np.maximum(s["largest"], s["v"])
            u = s["m"] / xp.unbias(b1, at.t) / ((divisor / xp.unbias(b2, at.t)) ** 0.5 + self.eps)
        return -lr * (u + (self.weight_decay if full else self.weight_decay_1d) * p)

    def state_floats(self, shapes: Shapes) -> int:
        return (3 + self.amsgrad) * size(shapes)
