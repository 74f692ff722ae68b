"""Adam, and Adam with decoupled weight decay.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
    theta <- theta - learning_rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay theta)

Sources: arXiv:1412.6980 (Adam), arXiv:1711.05101 (AdamW). By optax and by torch.optim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from optbench.core import Optimizer, Rule, Setting, Shapes, hyper


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam: momentum over the root of a running mean of squared gradients.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
    theta <- theta - learning_rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
    """

    name: ClassVar[str] = "adam"
    source: ClassVar[str] = "arXiv:1412.6980; optax.adam, torch.optim.Adam"
    memory: ClassVar[str] = "2n"

    learning_rate: float = hyper(0.001, "step size", bounds="(0, inf)", lane=True, sweep=(1e-4, 1.0))
    b1: float = hyper(0.9, "decay of the mean of gradients", bounds="[0, 1)")
    b2: float = hyper(0.999, "decay of the mean of squares", bounds="[0, 1)")
    eps: float = hyper(1e-8, "added to the root", bounds="[0, inf)")

    def jax(self, setting: Setting) -> Rule:
        """optax.adam."""
        import optax

        from optbench.rules.optax import OptaxRule

        rate = self.learning_rate
        return OptaxRule(optax.adam(lambda t: rate * setting.factor(t), self.b1, self.b2, self.eps))

    def torch(self, setting: Setting) -> Rule:
        """torch.optim.Adam."""
        import torch

        from optbench.rules.torch import TorchRule

        return TorchRule(
            lambda named: torch.optim.Adam(
                [p for _, p in named], self.learning_rate, (self.b1, self.b2), self.eps, foreach=True
            ),
            setting.factor,
        )

    def state_floats(self, shapes: Shapes) -> int:
        """Two moments."""
        return 2 * sum(math.prod(shape) for shape in shapes.values())


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
    theta <- theta - learning_rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay theta)
    """

    name: ClassVar[str] = "adamw"
    source: ClassVar[str] = "arXiv:1711.05101; optax.adamw, torch.optim.AdamW"

    weight_decay: float = hyper(1e-2, "decoupled weight decay", bounds="[0, inf)")

    def jax(self, setting: Setting) -> Rule:
        """optax.adamw."""
        import optax

        from optbench.rules.optax import OptaxRule

        rate = self.learning_rate
        return OptaxRule(
            optax.adamw(
                lambda t: rate * setting.factor(t), self.b1, self.b2, self.eps, weight_decay=self.weight_decay
            )
        )

    def torch(self, setting: Setting) -> Rule:
        """torch.optim.AdamW."""
        import torch

        from optbench.rules.torch import TorchRule

        return TorchRule(
            lambda named: torch.optim.AdamW(
                [p for _, p in named],
                self.learning_rate,
                (self.b1, self.b2),
                self.eps,
                self.weight_decay,
                foreach=True,
            ),
            setting.factor,
        )
