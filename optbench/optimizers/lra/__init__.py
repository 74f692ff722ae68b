"""PSGD LRA: a preconditioner that is a diagonal plus a matrix of low rank, on all parameters as one vector.

Q = (I + U V^T) diag(d) with U, V [n, r] and d [n]. One step of its fit, all from the old U, V, d:

    a = Q h,  b = Q^-T v                     h = g in whitening,  H v in Hessian mode;  v ~ N(0, I)
    nD = (P h) h - v (P^-1 v)                P = Q^T Q;  products by entry
    d <- d - k d nD                          k = precond_lr min_i 1/(|(P h, v)_i| |(h, P^-1 v)_i|)
    U <- U - k (a a^T V - b b^T V)(I + V^T U)      on a coin's heads, and on its tails
    V <- V - k ((I + V U^T) a a^T U - (I + V U^T) b b^T U)
                                             k = precond_lr / (|a| |W W^T a| + |b| |W W^T b|);  W the other one
    u = Q^T Q m                              m: bias-corrected momentum, or Nesterov's
    theta <- theta - learning_rate (u + weight_decay theta)

State: (2 r + 2) n numbers, (2 r + 1) n without momentum.

`lra[dQ=EQ]` is another optimizer: `lra_dq`, PSGD LRA as the package psgd_torch has it.

Source: Xi-Lin Li, Preconditioned Stochastic Gradient Descent, arXiv:1512.04202; Preconditioner on Matrix
Lie Group for SGD, arXiv:1809.10232; Black Box Lie Group Preconditioners for SGD, arXiv:2211.04422; package
psgd-jax 0.2.9.
"""

from __future__ import annotations

from typing import ClassVar

from optbench.fields import hyper
from optbench.optimizers.adapter import declared, size
from optbench.optimizers.psgd import GroupOptimizer
from optbench.protocol import Shapes


@declared
class LRA(GroupOptimizer):
    __doc__ = __doc__
    source: ClassVar[str] = "arXiv:1512.04202, arXiv:1809.10232, arXiv:2211.04422; psgd-jax 0.2.9"
    memory: ClassVar[str] = "(2 r + 1) n, and n of momentum"

    uvd_rank_of_approximation: int = hyper(10, "rank r of the correction to the diagonal", bounds="[1, inf)")

    def state_floats(self, shapes: Shapes) -> int:
        return (2 * self.uvd_rank_of_approximation + 1 + (self.b1 > 0)) * size(shapes)

    def vectorizes(self, shapes: Shapes) -> bool:
        """Not under vmap: a batched solve can stand still on XLA's CPU thread pool."""
        return False
