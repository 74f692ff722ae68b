"""Expectigrad: the gradient over the root of its mean square over all steps, then momentum.

At step t = 1, 2, ... with gradient g:

    s <- s + g^2
    n <- n + sign(g^2)                        with the sparse counter, entry by entry; else n = t
    d  = g / (eps + sqrt(s / n))              0 / 0 is 0
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

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import MOMENTUM, hyper
from optbench.optimizer import Optimizer
from optbench.protocol import Rule, Setting, Shapes
from optbench.ranges import require


def check(lr: Any, beta: Any, eps: Any) -> None:
    """The ranges that both frameworks share."""
    if not callable(lr):
        require("expectigrad", "(0, inf)", lr=lr)
    require("expectigrad", "[0, 1)", beta=beta)
    require("expectigrad", "(0, inf)", eps=eps)


@dataclass(frozen=True, kw_only=True)
class Expectigrad(Optimizer):
    __doc__ = __doc__
    name: ClassVar[str] = "expectigrad"
    source: ClassVar[str] = "arXiv:2010.01356; expectigrad e9ba829"
    memory: ClassVar[str] = "3n; one n less for beta = 0 and for sparse_counter = False"
    elementwise: ClassVar[bool] = True

    learning_rate: float = hyper(0.001, "step size", bounds="(0, inf)", lane=True, sweep=(1e-4, 1.0))
    beta: float = hyper(0.9, "decay of the momentum; 0 keeps none", bounds="[0, 1)", search=MOMENTUM)
    eps: float = hyper(1e-8, "added to the divisor", bounds="(0, inf)")
    sparse_counter: bool = hyper(True, "count only steps with a gradient", choices=(True, False))

    def options(self) -> dict[str, Any]:
        """The arguments that both frameworks share, by their original names."""
        return {"beta": self.beta, "eps": self.eps, "sparse_counter": self.sparse_counter}

    def jax(self, setting: Setting) -> Rule:
        """The optax transformation as a rule."""
        from optbench.optimizers.expectigrad.jax import expectigrad
        from optbench.rules.optax import OptaxRule

        rate = self.learning_rate
        return OptaxRule(expectigrad(lambda t: rate * setting.factor(t), **self.options()))

    def torch(self, setting: Setting) -> Rule:
        """The torch optimizer as a rule."""
        from optbench.optimizers.expectigrad.torch import Expectigrad as Method
        from optbench.rules.torch import TorchRule

        def make(named: Any) -> Method:
            return Method(named, self.learning_rate, **self.options())

        return TorchRule(make, setting.factor)

    def state_floats(self, shapes: Shapes) -> int:
        """The sum, the counter and the momentum."""
        return (1 + self.sparse_counter + (self.beta > 0)) * sum(map(math.prod, shapes.values()))
