"""Steps to the best point of a ball, whose norm follows the role of a parameter."""

from __future__ import annotations

from typing import Any

from optbench.fields import MOMENTUM, hyper
from optbench.optimizers.adapter import decay, declared, flag, size, step_size
from optbench.optimizers.leafwise import At, Leafwise, State
from optbench.optimizers.standard.spectral import orthogonal
from optbench.protocol import Shapes
from optbench.ranges import is_off

NORMS = ("auto", "bias", "spectral", "conv", "column", "row", "sign")


@declared(source="arXiv:2502.07529; github.com/LIONS-EPFL/scion f58a393", memory="n, none at b1 = 0")
class Scion(Leafwise, stacks=True):
    """Steps of a fixed length in a norm that fits the layer: the least linear function on its ball.

        m <- b1 m + (1 - b1) g;  theta <- (1 - learning_rate) theta - learning_rate scale lmo(m)

    lmo, with out and in the axes of a matrix: 'spectral' sqrt(out / in) U V' of m = U S V', by Newton and Schulz;
    'conv' the same of [out, in ..], over the number of the kernel's entries; 'bias' m / sqrt(mean m^2), over the
    first axis; 'column' m over the root mean square of each column, 'row' m over that of each row, times sqrt(in);
    'sign' sign(m) / in. 'auto': spectral or conv by the axes. What is no matrix goes by 'bias' always. `normalized`
    puts in, or takes out, the factor of the width. `unconstrained` does not shrink theta.

    Heads and embeddings go by `head_norm` and `embedding_norm`, scaled by `head_scale` beside `scale`: 'sign' and 60
    for the 50 and 3000 that the authors give language models. The package's own defaults are scale 1 and 'auto'.
    """

    learning_rate: float = step_size(2.5e-4, 2.5e-6)
    b1: float = decay(0.9, "the mean of gradients; 0 keeps none", MOMENTUM)
    scale: float = hyper(50.0, "length of the step in its norm", bounds="(0, inf)")
    head_scale: float = hyper(60.0, "that of heads and embeddings, relative to scale", bounds="(0, inf)")
    norm: str = hyper("auto", "the norm", choices=NORMS)
    head_norm: str = hyper("sign", "the norm of heads", choices=NORMS)
    embedding_norm: str = hyper("sign", "the norm of embeddings", choices=NORMS)
    normalized: bool | None = hyper(
        None, "put in a factor of the width; None: all but 'column'", choices=(None, True, False)
    )
    transpose: bool = flag(False, "'column' and 'row' of the transposed matrix")
    at_least_1: bool = flag(False, "'spectral': a factor of the shape of at least 1")
    iterations: int = hyper(5, "steps of Newton and Schulz", bounds="[1, inf)")
    unconstrained: bool = flag(False, "do not shrink the parameters")

    def start(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        return {} if is_off(self.b1) else {"m": xp.zeros(p)}

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        if not is_off(self.b1):
            g = s["m"] = xp.ema(s["m"], g, self.b1)
        own = {"head": self.head_norm, "embedding": self.embedding_norm}
        scale = self.scale * (self.head_scale if at.role in own else 1)
        u = scale * self.lmo(xp, g, own.get(at.role, self.norm))
        return -at.lr * (u if self.unconstrained else u + p)

    def lmo(self, xp: Any, m: Any, norm: str) -> Any:
        if m.ndim < 2 or norm == "bias":
            return m / (xp.mean(m * m, (0,) if m.ndim else ()) ** 0.5 + 1e-8)
        if norm in ("auto", "conv", "spectral"):
            norm = "spectral" if m.ndim == 2 else "conv"
        elif m.ndim > 2:
            return self.lmo(xp, m.reshape(m.shape[0], -1), norm).reshape(m.shape)
        wide = norm != "column" if self.normalized is None else self.normalized
        if norm == "conv":
            u = orthogonal(xp, m.reshape(m.shape[0], -1), self.iterations).reshape(m.shape)
            return u * (m.shape[0] / m.shape[1]) ** 0.5 / m.shape[2] ** (m.ndim - 2)
        if norm == "spectral":
            factor = (m.shape[0] / (m.shape[1] if wide else 1)) ** 0.5
            return (max(1, factor) if self.at_least_1 else factor) * orthogonal(xp, m, self.iterations)
        if norm == "sign":
            return xp.np.sign(m) / (m.shape[1] if wide else 1)
        m = m.mT if self.transpose else m
        if norm == "column":
            divisor = xp.mean(m * m, (0,)) ** 0.5 * (m.shape[1] if wide else 1)
        else:
            divisor = (m * m).sum(-1)[..., None] ** 0.5 * (m.shape[-1] ** 0.5 if wide else 1)
        u = m / (divisor + 1e-8)
        return u.mT if self.transpose else u

    def state_floats(self, shapes: Shapes) -> int:
        return (self.b1 > 0) * size(shapes)
