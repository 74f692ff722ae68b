"""Stochastic gradient descent, with momentum and Nesterov's form of it.

    m <- momentum m + g;  theta <- theta - learning_rate m        (Nesterov: g + momentum m in place of m)

Sources: Polyak 1964; Sutskever et al. 2013. By optax and by torch.optim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from optbench.core import Optimizer, Rule, Setting, Shapes, hyper


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's form of it.

    m <- momentum m + g;  theta <- theta - learning_rate m        (Nesterov: g + momentum m in place of m)
    """

    name: ClassVar[str] = "sgd"
    source: ClassVar[str] = "Polyak 1964, Sutskever et al. 2013; optax.sgd, torch.optim.SGD"
    memory: ClassVar[str] = "n with momentum, else 0"

    learning_rate: float = hyper(0.01, "step size", bounds="(0, inf)", lane=True, sweep=(3e-4, 3.0))
    momentum: float = hyper(0.0, "decay of the sum of gradients; 0 keeps none", bounds="[0, 1)")
    nesterov: bool = hyper(False, "look ahead; needs momentum", choices=(True, False))

    def jax(self, setting: Setting) -> Rule:
        """optax.sgd."""
        import optax

        from optbench.rules.optax import OptaxRule

        rate = self.learning_rate
        return OptaxRule(optax.sgd(lambda t: rate * setting.factor(t), self.momentum or None, self.nesterov))

    def torch(self, setting: Setting) -> Rule:
        """torch.optim.SGD."""
        import torch

        from optbench.rules.torch import TorchRule

        return TorchRule(
            lambda named: torch.optim.SGD(
                [p for _, p in named], self.learning_rate, self.momentum, nesterov=self.nesterov, foreach=True
            ),
            setting.factor,
        )

    def state_floats(self, shapes: Shapes) -> int:
        """One buffer, if there is momentum."""
        return sum(math.prod(shape) for shape in shapes.values()) if self.momentum else 0
