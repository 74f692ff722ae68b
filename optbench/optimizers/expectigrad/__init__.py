"""Expectigrad: the gradient over the root of its mean square over all steps, then momentum.

At step t = 1, 2, ... with gradient g:

    s <- s + g^2
    n <- n + sign(g^2)                        with the sparse counter, entry by entry;  else n = t
    d = g / (eps + sqrt(s / n))               0 / 0 is 0
    m <- beta m + (1 - beta) d
    theta <- theta - learning_rate / (1 - beta^t) m        beta = 0: theta - learning_rate d

The mean is arithmetic: nothing is forgotten, so the method converges on the periodic problem where Adam
diverges. The counter skips entries that have no gradient. Momentum comes after the division, so that with s
and n given a step is linear in the gradient.

Sums and counters are kept in at least float32: in bfloat16 the original's counter stops at 256, and its sum
sooner. `upstream=True` of the factories keeps them in the parameter's dtype.

Source: Daley, Amato, Expectigrad: Fast Stochastic Optimization with Robust Convergence Properties,
arXiv:2010.01356; package expectigrad 0.0.0 (commit e9ba829).
"""

from __future__ import annotations

from typing import ClassVar

from optbench.fields import MOMENTUM, hyper
from optbench.optimizers.adapter import Room, decay, declared, flag, size, step_size
from optbench.protocol import Shapes


@declared
class Expectigrad(Room):
    __doc__ = __doc__
    source: ClassVar[str] = "arXiv:2010.01356; expectigrad e9ba829"
    memory: ClassVar[str] = "3n; one n less for beta = 0 and for sparse_counter = False"
    elementwise: ClassVar[bool] = True

    learning_rate: float = step_size(0.001, 1e-4)
    beta: float = decay(0.9, "the momentum; 0 keeps none", MOMENTUM)
    eps: float = hyper(1e-8, "added to the divisor", bounds="(0, inf)")
    sparse_counter: bool = flag(True, "count, entry by entry, only the steps with a gradient")

    def state_floats(self, shapes: Shapes) -> int:
        return (1 + self.sparse_counter + (self.beta > 0)) * size(shapes)
