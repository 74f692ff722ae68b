"""NovoGrad: each layer's gradient divided by a running norm of the whole layer, then momentum.

For a leaf with gradient g and its one second moment nu (a scalar), at step t = 1, 2, ...:

    N = |g|^2                                 sum of squares over the whole leaf
    nu <- b2 nu + (1 - b2) N                  nu <- N at t = 1
    u = g / (sqrt(nu + eps_root) + eps) + weight_decay theta
    m <- b1 m + u                             m <- u at t = 1;  no factor 1 - b1, no bias correction
    theta <- theta - learning_rate m

The decay sits inside the momentum. Where the divisor is exactly 0 (a zero gradient, eps = eps_root = 0) the
direction is 0; optax's own gives NaN there, and `upstream=True` of the factories gives it back. N and nu are kept in
at least float32: a float16 holds no square of 300, and none of 1e-5.

Source: Ginsburg et al., Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training of Deep
Networks, arXiv:1905.11286; the numbers of `optax.novograd`, package optax 0.2.8.
"""

from __future__ import annotations

from typing import ClassVar

from optbench.fields import MOMENTUM, hyper
from optbench.optimizers.adapter import Room, decay, declared, size, small, step_size, weight_decay
from optbench.protocol import Shapes


@declared
class Novograd(Room):
    __doc__ = __doc__
    source: ClassVar[str] = "arXiv:1905.11286; optax 0.2.8"
    memory: ClassVar[str] = "n + one per leaf"

    learning_rate: float = step_size(0.001, 1e-4)
    b1: float = decay(0.9, "the momentum", MOMENTUM)
    b2: float = hyper(0.25, "decay of the squared norm", bounds="[0, 1]")
    eps: float = small(1e-6, "added to the norm")
    eps_root: float = small(0.0, "added to the squared norm, under the root")
    weight_decay: float = weight_decay(0.0, "weight decay, inside the momentum")

    def state_floats(self, shapes: Shapes) -> int:
        return size(shapes) + len(shapes)
