"""Variance reduction by the change of a gradient, before the step of another method."""

from __future__ import annotations

from typing import Any

from optbench.fields import MOMENTUM, hyper
from optbench.optimizers.adapter import decay, declared, flag, size, small, step_size, weight_decay
from optbench.optimizers.leafwise import At, Leafwise, State
from optbench.optimizers.standard.spectral import orthogonal
from optbench.protocol import Shapes


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
        s["last"], s["m"] = g, xp.ema(s["m"], c, b1)
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
