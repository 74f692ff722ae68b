"""Steps that see a layer as a whole: in proportion to its norm, or with one divisor for many entries."""

from __future__ import annotations

from typing import Any

from optbench.fields import MOMENTUM, hyper
from optbench.optimizers.adam import Moments
from optbench.optimizers.adapter import Standard, decay, declared, flag, small, step_size, weight_decay
from optbench.optimizers.leafwise import At, Clipping, Leafwise, State
from optbench.protocol import Shapes, size


@declared(source="arXiv:1708.03888; timm 1.0.31")
class LARS(Leafwise, slots=("m",)):
    """Gradients scaled to a fraction of their layer's norm, then momentum.

        u = trust |theta| / (|g| + weight_decay |theta| + eps) (g + weight_decay theta)    by leaf; g where a norm is 0
        m <- momentum m + (1 - dampening) u;  theta <- theta - learning_rate m             m <- u at t = 1

    The learning rate scales the momentum, as in torch.optim; the paper's is inside it, which differs only under a
    schedule. timm's LARS scales nothing where there is no decay, unless `always_adapt`; this one always does.
    """

    learning_rate: float = step_size(1.0, 1e-1)
    momentum: float = decay(0.9, "the sum of steps", MOMENTUM)
    dampening: float = hyper(0.0, "how much less than the whole step is added", bounds="[0, 1)")
    trust: float = hyper(0.001, "step relative to the norm of the layer", bounds="(0, inf)")
    trust_clip: bool = flag(False, "a layer's learning rate is at most the learning rate")
    eps: float = small(0.0, "added to the norm")
    nesterov: bool = flag(False, "look ahead")
    weight_decay: float = weight_decay(0.0, "weight decay, added to the gradient")

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        size, own = xp.norm(p), xp.norm(g)
        divisor = own + self.weight_decay * size + self.eps
        ratio = xp.where((size > 0) & (own > 0), self.trust * size / divisor, xp.np.ones_like(size))
        if self.trust_clip:
            ratio = xp.at_most(ratio / at.lr, 1)
        u = xp.cast(ratio, g.dtype) * (g + self.weight_decay * p)
        s["m"] = self.momentum * s["m"] + (1 - self.dampening * (at.t > 1)) * u
        return -at.lr * (u + self.momentum * s["m"] if self.nesterov else s["m"])


@declared(source="arXiv:1904.00962; timm 1.0.31")
class LAMB(Moments, Clipping, slots=("m", "v")):
    """Adam's step scaled to the norm of its layer.

        u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay theta
        theta <- theta - learning_rate |theta| / |u| u        by leaf; the ratio is 1 where a norm is 0

    `apex`'s and timm's LAMB clip the gradients to a norm of 1 (`max_grad_norm`), decay by 0.01, and without decay do
    not scale a layer unless `always_adapt`; the paper has no clip, and scales always.
    """

    learning_rate: float = step_size(0.01, 1e-4)
    eps: float = small(1e-6)
    weight_decay: float = weight_decay(0.0, "weight decay, inside the scaled step")
    decoupled_decay: bool = flag(False, "decay outside the scaled step")
    always_adapt: bool = flag(True, "scale layers without decay too")
    trust_clip: bool = flag(False, "scale no layer up")
    bias_correction: bool = flag(True, "correct the means' bias")
    grad_averaging: bool = flag(True, "a mean of gradients, not a decaying sum")
    max_grad_norm: float | None = hyper(None, "largest norm of all gradients; None: any", bounds="(0, inf)")

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        g = xp.cast(g * at.shared["clip"], g.dtype)
        mean, square = 1.0, 1.0
        if self.bias_correction:
            mean, square = xp.unbias(self.b1, at.t), xp.unbias(self.b2, at.t)
        s["m"] = self.b1 * s["m"] + (1 - self.b1 if self.grad_averaging else 1) * g
        s["v"] = xp.ema(s["v"], g * g, self.b2)
        u = s["m"] / mean / ((s["v"] / square) ** 0.5 + self.eps)
        shrunk = at.lr * self.weight_decay if self.decoupled_decay else 0.0
        decayed = p * (1 - shrunk)
        if not self.decoupled_decay:
            u = u + self.weight_decay * p
        if self.always_adapt or self.weight_decay:
            size, own = xp.norm(decayed), xp.norm(u)
            ratio = xp.where((size > 0) & (own > 0), size / own, xp.np.ones_like(size))
            u = xp.cast(xp.at_most(ratio, 1) if self.trust_clip else ratio, u.dtype) * u
        return decayed - at.lr * u - p


@declared(source="arXiv:2406.16793; adam-mini 1.1.1", memory="n + one for each row")
class AdamMini(Moments, Leafwise):
    """Adam with one mean of squares for each row of a matrix, and one for each other parameter.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) mean(g^2)        over a row [out, in], or over all entries
        theta <- theta - learning_rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay theta)

    Vectors do not decay. The original finds blocks by names: biases have a mean for each entry (`vectors='entry'`),
    queries and keys one for each head, which is not offered here.
    """

    weight_decay: float = weight_decay()
    vectors: str = hyper("leaf", "what has a mean of squares in vectors", choices=("leaf", "entry"))

    def blocks(self, xp: Any, squares: Any) -> Any:
        """The means over the blocks, in a shape that broadcasts."""
        if squares.ndim == 1 and self.vectors == "entry":
            return squares
        return xp.mean(squares, (1,) if squares.ndim == 2 else tuple(range(squares.ndim)))

    def start(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        return {"m": xp.zeros(p), "v": self.blocks(xp, xp.zeros(p))}

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        s["m"] = xp.ema(s["m"], g, self.b1)
        s["v"] = xp.ema(s["v"], self.blocks(xp, g * g), self.b2)
        divisor = (s["v"] / xp.unbias(self.b2, at.t)) ** 0.5 + self.eps
        decay = 0.0 if at.role == "vector" else self.weight_decay
        return -at.lr * (s["m"] / xp.unbias(self.b1, at.t) / divisor + decay * p)

    def state_floats(self, shapes: Shapes) -> int:
        axes = (1, 2) if self.vectors == "entry" else (2,)
        return size(shapes) + sum(shape[0] if len(shape) in axes else 1 for shape in shapes.values())


@declared(source="arXiv:2002.03432; optax.fromage")
class Fromage(Standard, optax="fromage", proportional=False):
    """Steps relative to each layer's norm, then a contraction that keeps the norm from growing.

        u = max(|theta|, min_norm) / max(|g|, min_norm) g        for each leaf
        theta <- (theta - learning_rate u) / sqrt(1 + learning_rate^2)

    The contraction depends on the learning rate too, so a schedule does not scale the step alone.
    In float16 the least norm is 0, and a leaf without gradient 0 / 0.
    """

    learning_rate: float = step_size(0.01, 1e-4)
    min_norm: float = hyper(1e-6, "least norm of parameters and gradients", bounds="(0, inf)")
