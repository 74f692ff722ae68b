"""Stochastic gradient descent, by optax and by torch.optim."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from optbench.fields import FROM_NONE, UserError
from optbench.optimizers.adapter import Rate, Standard, decay, declared, flag, size, step_size
from optbench.protocol import Shapes
from optbench.ranges import is_off


@declared
class SGD(Standard):
    """Stochastic gradient descent, with momentum and Nesterov's form of it.

    m <- momentum m + g;  theta <- theta - learning_rate m        (Nesterov: g + momentum m in place of m)
    """

    source: ClassVar[str] = "Polyak 1964, Sutskever et al. 2013; optax.sgd, torch.optim.SGD"
    memory: ClassVar[str] = "n with momentum, else 0"
    elementwise: ClassVar[bool] = True

    learning_rate: float = step_size(0.01, 3e-4)
    momentum: float = decay(0.0, "the sum of gradients; 0 keeps none", FROM_NONE)
    nesterov: bool = flag(False, "look ahead; needs momentum")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise UserError(
                f"{self.name}[nesterov=True] has no momentum to look ahead along. "
                f"Write {self.name}[nesterov=True,momentum=0.9]. See: optbench show {self.name}"
            )

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.sgd(rate, None if is_off(self.momentum) else self.momentum, self.nesterov)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        return partial(optim.SGD, momentum=self.momentum, nesterov=self.nesterov, foreach=True)

    def state_floats(self, shapes: Shapes) -> int:
        return size(shapes) if self.momentum else 0
