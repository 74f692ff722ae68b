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

from typing import ClassVar

from optbench.optimizers.adapter import declared, size
from optbench.optimizers.psgd import GroupOptimizer
from optbench.protocol import Shapes


@declared
class XMat(GroupOptimizer):
    __doc__ = __doc__
    source: ClassVar[str] = "arXiv:1512.04202, arXiv:1809.10232; psgd-jax 0.2.9"
    memory: ClassVar[str] = "2 n, and n of momentum"
    releases: ClassVar[tuple[str, ...]] = ("0.2.9", "0.1.0")

    def state_floats(self, shapes: Shapes) -> int:
        return (2 + (self.b1 > 0)) * size(shapes)
