"""Adam, and Adam with decoupled weight decay, by optax and by torch.optim."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from optbench.fields import MOMENTUM
from optbench.optimizers.adapter import Rate, Standard, decay, declared, small, step_size, weight_decay


@declared
class Moments(Standard):
    """The hyperparameters of a method with running means of gradients and of their squares."""

    arrays: ClassVar[int] = 2

    learning_rate: float = step_size(0.001, 1e-4)
    b1: float = decay(0.9, "the mean of gradients", MOMENTUM)
    b2: float = decay(0.999, "the mean of squares")
    eps: float = small(1e-8)


@declared
class Adam(Moments):
    """Adam: momentum over the root of a running mean of squared gradients.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
        theta <- theta - learning_rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)

    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    """

    source: ClassVar[str] = "arXiv:1412.6980; optax.adam, torch.optim.Adam"
    elementwise: ClassVar[bool] = True

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.adam(rate, self.b1, self.b2, self.eps)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        return partial(optim.Adam, betas=(self.b1, self.b2), eps=self.eps, foreach=True)


@declared
class AdamW(Adam):
    """Adam with decoupled weight decay.

        m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
        theta <- theta - learning_rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay theta)

    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    """

    name: ClassVar[str] = "adamw"
    source: ClassVar[str] = "arXiv:1711.05101; optax.adamw, torch.optim.AdamW"

    weight_decay: float = weight_decay(1e-2)

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.adamw(rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        return partial(
            optim.AdamW, betas=(self.b1, self.b2), eps=self.eps, weight_decay=self.weight_decay, foreach=True
        )
