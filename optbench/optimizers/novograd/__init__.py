"""NovoGrad: each layer's gradient divided by a running norm of the whole layer, then momentum.

For a leaf with gradient g and its one second moment nu (a scalar), at step t = 1, 2, ...:

    N  = |g|^2                                sum of squares over the whole leaf
    nu <- N at t = 1, else b2 nu + (1 - b2) N
    u  = g / (sqrt(nu + eps_root) + eps) + weight_decay theta
    m  <- u at t = 1, else b1 m + u           no factor 1 - b1, no bias correction
    theta <- theta - learning_rate m

The decay sits inside the momentum. Where the divisor is exactly 0 (a zero gradient, eps = eps_root = 0) the
direction is 0; optax's own gives NaN there, and `upstream=True` of the factories gives it back.

Source: Ginsburg et al., Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training of Deep
Networks, arXiv:1905.11286; the numbers of `optax.novograd`, package optax 0.2.8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import MOMENTUM, hyper
from optbench.optimizer import Optimizer
from optbench.protocol import Rule, Setting, Shapes
from optbench.ranges import require


def check(b1: Any, b2: Any, eps: Any, eps_root: Any, weight_decay: Any) -> None:
    """The ranges that both frameworks share."""
    require("novograd", "[0, 1)", b1=b1)
    require("novograd", "[0, 1]", b2=b2)
    require("novograd", "[0, inf)", eps=eps, eps_root=eps_root)
    if not callable(weight_decay):
        require("novograd", "[0, inf)", weight_decay=weight_decay)


@dataclass(frozen=True, kw_only=True)
class Novograd(Optimizer):
    __doc__ = __doc__
    name: ClassVar[str] = "novograd"
    source: ClassVar[str] = "arXiv:1905.11286; optax 0.2.8"
    memory: ClassVar[str] = "n + one per leaf"

    learning_rate: float = hyper(0.001, "step size", bounds="(0, inf)", lane=True, sweep=(1e-4, 1.0))
    b1: float = hyper(0.9, "decay of the momentum", bounds="[0, 1)", search=MOMENTUM)
    b2: float = hyper(0.25, "decay of the norm", bounds="[0, 1]")
    eps: float = hyper(1e-6, "added to the norm", bounds="[0, inf)")
    eps_root: float = hyper(0.0, "added to the squared norm", bounds="[0, inf)")
    weight_decay: float = hyper(0.0, "weight decay, inside the momentum", bounds="[0, inf)")

    def options(self) -> dict[str, Any]:
        """The arguments that both frameworks share, by their original names."""
        names = ("b1", "b2", "eps", "eps_root", "weight_decay")
        return {name: getattr(self, name) for name in names}

    def jax(self, setting: Setting) -> Rule:
        """The optax transformation as a rule."""
        from optbench.optimizers.novograd.jax import novograd
        from optbench.rules.optax import OptaxRule

        rate = self.learning_rate
        return OptaxRule(novograd(lambda t: rate * setting.factor(t), **self.options()))

    def torch(self, setting: Setting) -> Rule:
        """The torch optimizer as a rule."""
        from optbench.optimizers.novograd.torch import Novograd as Method
        from optbench.rules.torch import TorchRule

        def make(named: Any) -> Method:
            return Method(named, self.learning_rate, **self.options())

        return TorchRule(make, setting.factor)

    def state_floats(self, shapes: Shapes) -> int:
        """Momentum, and one norm for each leaf."""
        return sum(math.prod(shape) + 1 for shape in shapes.values())
