"""PSGD XMat: a preconditioner in the shape of an X on all parameters as one vector.

With f(x) the reversed vector, Q = diag(a) + antidiag(b), so Q x = a x + b f(x). One step of its fit:

    w = Q h,  z = Q^-T v                     h = g in whitening,  H v in Hessian mode;  v ~ N(0, I)
    nA = w^2 - z^2;  nB = w f(w) - z f(z)    the middle entry of nB is 0 when n is odd
    k = precond_lr / max(w^2 + z^2)          '1st': precond_lr / max(max|nA|, max|nB|)
    a <- a - k (nA a + nB f(b));  b <- b - k (nA b + nB f(a))
    u = Q^T Q m                              m: bias-corrected momentum, or Nesterov's
    theta <- theta - learning_rate (u + weight_decay theta)

State: 3 n numbers, 2 n without momentum.

Source: Xi-Lin Li, Preconditioned Stochastic Gradient Descent, arXiv:1512.04202; Preconditioner on Matrix
Lie Group for SGD, arXiv:1809.10232; package psgd-jax 0.2.9.
"""

from __future__ import annotations

from typing import Any, ClassVar

from optbench.optimizers.adapter import declared, size
from optbench.optimizers.psgd import GroupOptimizer
from optbench.optimizers.psgd.groups import Factors, Fit, WholeVector
from optbench.protocol import Noise, Shapes


@declared
class XMat(GroupOptimizer):
    __doc__ = __doc__
    source: ClassVar[str] = "arXiv:1512.04202, arXiv:1809.10232; psgd-jax 0.2.9"
    memory: ClassVar[str] = "2 n, and n of momentum"
    releases: ClassVar[tuple[str, ...]] = ("0.2.9", "0.1.0")

    def state_floats(self, shapes: Shapes) -> int:
        return (2 + (self.b1 > 0)) * size(shapes)


class XGroup(WholeVector):
    """Q = diag(a) + antidiag(b)."""

    def flip(self, x: Any) -> Any:
        return self.xp.np.flip(x, (0,))

    def init(self, unit: Any, noise: Noise) -> Factors:
        return {"a": self.xp.np.ones_like(unit), "b": self.xp.np.zeros_like(unit)}

    def scaled(self, factors: Factors, scale: Any) -> Factors:
        return {"a": scale * factors["a"], "b": factors["b"]}  # b is still 0

    def fit(self, factors: Factors, given: Fit) -> Factors:
        np = self.xp.np
        a, b, h, v = factors["a"], factors["b"], given.h, given.v
        fa, fb = self.flip(a), self.flip(b)
        w = a * h + b * self.flip(h)
        z = (fa * v - fb * self.flip(v)) / (a * fa - b * fb)
        size_a = w * w - z * z
        size_b = w * self.flip(w) - z * self.flip(z)
        if len(h) % 2:
            # The middle entry is on both diagonals; a has it.
            size_b = self.xp.cleared(size_b, len(h) // 2)
        first = lambda: np.maximum(abs(size_a).max(), abs(size_b).max())  # noqa: E731
        k = given.lr / np.clip((w * w + z * z).max() if given.second_order else first(), min=1e-25)
        return {"a": a - k * (size_a * a + size_b * fb), "b": b - k * (size_a * b + size_b * fa)}

    def apply(self, factors: Factors, m: Any) -> Any:
        a, b = factors["a"], factors["b"]
        cross = a * b
        return (a * a + self.flip(b * b)) * m + (cross + self.flip(cross)) * self.flip(m)
