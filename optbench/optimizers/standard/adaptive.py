"""Gradients divided by the root of their squares' sum or mean: Adagrad and what followed it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from optbench.fields import FROM_NONE, Search, hyper
from optbench.optimizers.adapter import Rate, Standard, decay, declared, flag, size, small, step_size
from optbench.protocol import Shapes
from optbench.ranges import is_off


@declared(source="Duchi et al. 2011; optax.adagrad, torch.optim.Adagrad")
class Adagrad(Standard, arrays=1, elementwise=True):
    """Each entry divided by the root of the sum of its squares, so that steps shrink for ever.

        v <- v + g^2;  theta <- theta - learning_rate g / sqrt(v)        v starts from `initial`

    optax adds an eps inside the root, torch beside it: here it is 0, and `initial` keeps the divisor from 0.
    """

    learning_rate: float = step_size(0.1, 1e-3)
    initial: float = hyper(
        0.1, "first sum of squares", bounds="(0, inf)", lane=True, search=Search(1e-3, 10.0)
    )

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.adagrad(rate, self.initial, eps=0.0)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        return partial(optim.Adagrad, initial_accumulator_value=self.initial, eps=0.0, foreach=True)


@declared(
    source="Tieleman and Hinton 2012; optax.scale_by_rms, torch.optim.RMSprop",
    memory="n; one more each with momentum and centered",
)
class RMSprop(Standard, elementwise=True):
    """Each entry divided by the root of a running mean of its squares; momentum if asked for.

        v <- b2 v + (1 - b2) g^2;  u = g / (sqrt(v) + eps);  m <- momentum m + u
        theta <- theta - learning_rate m

    `centered` takes the square of the running mean of g from v. The learning rate stands outside the momentum,
    as in torch; `optax.rmsprop` has it inside, which differs under a schedule.
    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    """

    learning_rate: float = step_size(0.001, 1e-4)
    b2: float = decay(0.99, "the mean of squares")
    eps: float = small(1e-8)
    momentum: float = decay(0.0, "the sum of steps; 0 keeps none", FROM_NONE)
    centered: bool = flag(False, "divide by the deviation from the mean gradient")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        scale = optax.scale_by_stddev if self.centered else optax.scale_by_rms
        parts = [scale(self.b2, self.eps, eps_in_sqrt=False)]
        parts += [] if is_off(self.momentum) else [optax.trace(self.momentum)]
        return optax.chain(*parts, optax.scale_by_learning_rate(rate))

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        options = {"alpha": self.b2, "momentum": self.momentum, "centered": self.centered}
        return partial(optim.RMSprop, eps=self.eps, **options, foreach=True)

    def state_floats(self, shapes: Shapes) -> int:
        return (1 + (self.momentum > 0) + self.centered) * size(shapes)


@declared(source="arXiv:1212.5701; optax.adadelta, torch.optim.Adadelta")
class Adadelta(Standard, arrays=2, elementwise=True):
    """Steps in the units of the parameters: the ratio of two running roots.

        v <- b2 v + (1 - b2) g^2;  u = sqrt(x + eps) / sqrt(v + eps) g;  x <- b2 x + (1 - b2) u^2
        theta <- theta - learning_rate u

    The learning rate is 1 in the paper; here it is swept as every other method's. In JAX it is for real
    parameters.
    """

    learning_rate: float = step_size(1.0, 0.1)
    b2: float = decay(0.9, "the means of squares")
    eps: float = hyper(1e-6, "added inside the roots; the first step is its root", bounds="(0, inf)")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        from optbench.optimizers.standard.jax import adadelta

        return adadelta(rate, self.b2, self.eps)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        return partial(optim.Adadelta, rho=self.b2, eps=self.eps, foreach=True)


@declared(
    source="arXiv:1804.04235; optax.adafactor, torch.optim.Adafactor", memory="rows + columns; n for vectors"
)
class Adafactor(Standard):
    """Squares kept as the sums of rows and columns; steps relative to the size of the parameters.

        d = 1 - t^-decay;  row <- d row + (1 - d) mean_j g_ij^2;  col likewise
        u = g / sqrt(row col / mean(row));  u <- u / max(1, rms(u) / clipping)
        theta <- theta - min(learning_rate, 1 / sqrt(t)) max(1e-3, rms(theta)) u

    Vectors keep their squares whole. Of more than two axes the last two are factored, as in torch; optax itself factors
    the two longest. In float16 a square is soon 0, and a step 0 / 0; torch.optim's takes no empty parameters and, in
    torch 2.13, none that `fully_shard` shards.
    """

    learning_rate: float = step_size(0.01, 1e-4)
    decay: float = hyper(
        0.8,
        "exponent of the mean's memory",
        bounds="(0, 1]",
        lane=True,
        search=Search(0.05, 0.8, complement=True),
    )
    clipping: float = hyper(1.0, "largest root mean square of a step", bounds="[1, inf)")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        from optbench.optimizers.standard.jax import adafactor

        return adafactor(rate, self.decay, self.clipping, eps=1e-30)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        options = {"beta2_decay": -self.decay, "eps": (1e-15, 1e-3), "d": self.clipping}
        return partial(optim.Adafactor, **options, foreach=True)

    def state_floats(self, shapes: Shapes) -> int:
        return sum(
            math.prod(shape[:-2]) * (shape[-2] + shape[-1]) if len(shape) > 1 else math.prod(shape)
            for shape in shapes.values()
        )
