"""The three update rules of ngc-learn: Adam, Nesterov's accelerated gradient, gradient descent.

ngc-learn subtracts what it is given, so gradients descend. Its compiled steps take the hyperparameters as
numbers of the run's dtype; here too they are rounded to the parameter's dtype, float32 at least (in float32
1 - b2 is 1 - 0.99900001, not 0.001). Its functional interface is `optbench.optimizers.ngc.functional`.

Source: package ngclearn 3.2.1 (commit 6cfadd5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import MOMENTUM, hyper
from optbench.optimizer import Optimizer
from optbench.protocol import Rule, Setting, Shapes
from optbench.ranges import require


def check_adam(beta1: Any, beta2: Any, eps: Any) -> None:
    """The ranges that both frameworks share."""
    require("ngc_adam", "[0, 1)", beta1=beta1, beta2=beta2)
    require("ngc_adam", "[0, inf)", eps=eps)


def check_rate(owner: str, **rate: Any) -> None:
    """The range of a step size that is not a schedule."""
    require(owner, "[0, inf)", **{name: value for name, value in rate.items() if not callable(value)})


@dataclass(frozen=True, kw_only=True)
class NgcAdam(Optimizer):
    """Adam as in ngc-learn.

    At step t = 1, 2, ... with gradient g:

        g1 <- b1 g1 + (1 - b1) g
        g2 <- b2 g2 + (1 - b2) g^2
        theta <- theta - learning_rate (g1 / (1 - b1^t)) / (sqrt(g2 / (1 - b2^t)) + eps)

    Source: Kingma, Ba, Adam: A Method for Stochastic Optimization, arXiv:1412.6980; package ngclearn 3.2.1.
    """

    name: ClassVar[str] = "ngc_adam"
    source: ClassVar[str] = "arXiv:1412.6980; ngclearn 3.2.1"
    memory: ClassVar[str] = "2n"
    elementwise: ClassVar[bool] = True

    learning_rate: float = hyper(0.001, "step size", bounds="(0, inf)", lane=True, sweep=(1e-4, 1.0))
    b1: float = hyper(0.9, "decay of the average gradient", bounds="[0, 1)", search=MOMENTUM)
    b2: float = hyper(0.999, "decay of the average square", bounds="[0, 1)")
    eps: float = hyper(1e-8, "added to the divisor", bounds="[0, inf)")

    def jax(self, setting: Setting) -> Rule:
        """The optax transformation as a rule."""
        from optbench.optimizers.ngc.jax import ngc_adam
        from optbench.rules.optax import OptaxRule

        rate = self.learning_rate
        return OptaxRule(ngc_adam(lambda t: rate * setting.factor(t), self.b1, self.b2, self.eps))

    def torch(self, setting: Setting) -> Rule:
        """The torch optimizer as a rule."""
        from optbench.optimizers.ngc.torch import NgcAdam as Method
        from optbench.rules.torch import TorchRule

        def make(named: Any) -> Method:
            return Method(named, self.learning_rate, self.b1, self.b2, self.eps)

        return TorchRule(make, setting.factor)

    def state_floats(self, shapes: Shapes) -> int:
        """The two averages."""
        return 2 * sum(map(math.prod, shapes.values()))


@dataclass(frozen=True, kw_only=True)
class NgcNag(Optimizer):
    """Nesterov's accelerated gradient as in ngc-learn.

    At step t = 1, 2, ... with gradient g:

        phi'  = theta - learning_rate g
        theta <- phi' + momentum (phi' - phi)     without the second term at t = 1
        phi   <- phi'

    The learning rate enters the plain step only: a schedule scales that, not what the last move adds.

    Source: Nesterov, A method for solving the convex programming problem with convergence rate O(1/k^2),
    1983; package ngclearn 3.2.1.
    """

    name: ClassVar[str] = "ngc_nag"
    source: ClassVar[str] = "Nesterov 1983; ngclearn 3.2.1"
    memory: ClassVar[str] = "n"
    elementwise: ClassVar[bool] = True
    proportional: ClassVar[bool] = False

    learning_rate: float = hyper(0.01, "step size", bounds="(0, inf)", lane=True, sweep=(1e-4, 1.0))
    momentum: float = hyper(
        0.9, "weight of the last move (mu in ngc-learn)", bounds="[0, 1)", search=MOMENTUM
    )

    def jax(self, setting: Setting) -> Rule:
        """The optax transformation as a rule."""
        from optbench.optimizers.ngc.jax import ngc_nag
        from optbench.rules.optax import OptaxRule

        rate = self.learning_rate
        return OptaxRule(ngc_nag(lambda t: rate * setting.factor(t), self.momentum))

    def torch(self, setting: Setting) -> Rule:
        """The torch optimizer as a rule."""
        from optbench.optimizers.ngc.torch import NgcNag as Method
        from optbench.rules.torch import TorchRule

        return TorchRule(lambda named: Method(named, self.learning_rate, self.momentum), setting.factor)

    def state_floats(self, shapes: Shapes) -> int:
        """The last plain step."""
        return sum(map(math.prod, shapes.values()))


@dataclass(frozen=True, kw_only=True)
class NgcSgd(Optimizer):
    """Gradient descent as in ngc-learn: theta <- theta - learning_rate g.

    Source: package ngclearn 3.2.1.
    """

    name: ClassVar[str] = "ngc_sgd"
    source: ClassVar[str] = "ngclearn 3.2.1"
    memory: ClassVar[str] = "0"
    elementwise: ClassVar[bool] = True

    learning_rate: float = hyper(0.001, "step size", bounds="(0, inf)", lane=True, sweep=(1e-4, 1.0))

    def jax(self, setting: Setting) -> Rule:
        """The optax transformation as a rule."""
        from optbench.optimizers.ngc.jax import ngc_sgd
        from optbench.rules.optax import OptaxRule

        rate = self.learning_rate
        return OptaxRule(ngc_sgd(lambda t: rate * setting.factor(t)))

    def torch(self, setting: Setting) -> Rule:
        """The torch optimizer as a rule."""
        from optbench.optimizers.ngc.torch import NgcSgd as Method
        from optbench.rules.torch import TorchRule

        return TorchRule(lambda named: Method(named, self.learning_rate), setting.factor)

    def state_floats(self, shapes: Shapes) -> int:
        """Nothing is kept."""
        return 0
