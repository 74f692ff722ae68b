"""Descent along the gradient or its sign, with or without memory of the last ones."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from optbench.fields import hyper
from optbench.optimizers.adapter import Rate, Standard, decay, declared, size, step_size, weight_decay
from optbench.optimizers.sgd import SGD
from optbench.protocol import Rule, Setting, Shapes


@declared
class Momentum(SGD):
    """Heavy ball: descent along a decaying sum of gradients.

    m <- momentum m + g;  theta <- theta - learning_rate m
    """

    name: ClassVar[str] = "momentum"
    source: ClassVar[str] = "Polyak 1964; optax.sgd, torch.optim.SGD"

    learning_rate: float = step_size(0.01, 1e-4)
    momentum: float = decay(0.9, "the sum of gradients; 0 keeps none")


@declared
class Nesterov(SGD):
    """Nesterov's accelerated gradient, in the form of Sutskever et al.

    m <- momentum m + g;  theta <- theta - learning_rate (g + momentum m)
    """

    name: ClassVar[str] = "nesterov"
    source: ClassVar[str] = "Nesterov 1983, Sutskever et al. 2013; optax.sgd, torch.optim.SGD"

    learning_rate: float = step_size(0.01, 1e-4)
    momentum: float = hyper(0.9, "decay of the sum of gradients", bounds="(0, 1)")
    nesterov: bool = hyper(True, "look ahead", choices=(True, False))


@declared
class SignSGD(Standard):
    """Every entry moves by the learning rate, against the sign of its gradient.

    theta <- theta - learning_rate sign(g)
    """

    name: ClassVar[str] = "sign_sgd"
    source: ClassVar[str] = "arXiv:1802.04434; optax.sign_sgd"
    memory: ClassVar[str] = "0"

    learning_rate: float = step_size(0.001, 1e-5)

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.sign_sgd(rate)


@declared
class Signum(Standard):
    """The sign of a mean of gradients.

    m <- b1 m + (1 - b1) g;  theta <- theta - learning_rate sign(m)
    """

    name: ClassVar[str] = "signum"
    source: ClassVar[str] = "arXiv:1802.04434; optax.signum"
    memory: ClassVar[str] = "n"
    arrays: ClassVar[int] = 1

    learning_rate: float = step_size(0.001, 1e-5)
    b1: float = decay(0.9, "the mean of gradients")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.signum(rate, self.b1)


@declared
class Lion(Standard):
    """The sign of a mix of the gradient and a slower mean of gradients; weight decay is decoupled.

    u = sign(b1 m + (1 - b1) g);  m <- b2 m + (1 - b2) g
    theta <- theta - learning_rate (u + weight_decay theta)
    """

    name: ClassVar[str] = "lion"
    source: ClassVar[str] = "arXiv:2302.06675; optax.lion"
    memory: ClassVar[str] = "n"
    arrays: ClassVar[int] = 1

    learning_rate: float = step_size(1e-4, 1e-5)
    b1: float = decay(0.9, "the mean in the step")
    b2: float = decay(0.99, "the mean that is kept")
    weight_decay: float = weight_decay(1e-3)

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.lion(rate, self.b1, self.b2, weight_decay=self.weight_decay)


@declared
class OptimisticSGD(Standard):
    """Descent along the gradient plus how it changed; made for games, where it damps the turning.

    theta <- theta - learning_rate ((alpha + beta) g_t - beta g_{t-1}), with g_0 = g_1
    """

    name: ClassVar[str] = "optimistic_sgd"
    source: ClassVar[str] = "arXiv:1711.00141; optax.optimistic_gradient_descent"
    memory: ClassVar[str] = "n"
    arrays: ClassVar[int] = 1

    learning_rate: float = step_size(0.01, 3e-4)
    alpha: float = hyper(1.0, "weight of the gradient", bounds="(0, inf)")
    beta: float = hyper(1.0, "weight of its change", bounds="[0, inf)")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.optimistic_gradient_descent(rate, self.alpha, self.beta)


@declared
class Rprop(Standard):
    """Resilient propagation: each entry has its own step, longer while the sign of its gradient stays.

    s = g_t g_{t-1};  step <- clip(eta_plus step where s > 0, eta_minus step where s < 0, min_step, max_step)
    g_t <- 0 where s < 0;  theta <- theta - step sign(g_t)

    The learning rate is the first step; a schedule scales every step that is taken. Made for full batches.
    `optax.rprop` (0.2.8) takes each step one iteration late; here it is taken at once, as torch.optim does.
    """

    name: ClassVar[str] = "rprop"
    source: ClassVar[str] = (
        "Riedmiller and Braun 1993, doi:10.1109/ICNN.1993.298623; optax, torch.optim.Rprop"
    )
    memory: ClassVar[str] = "2n"
    elementwise: ClassVar[bool] = True
    arrays: ClassVar[int] = 2

    learning_rate: float = step_size(0.01, 1e-4)
    eta_minus: float = hyper(0.5, "factor of a step whose sign changed", bounds="(0, 1)")
    eta_plus: float = hyper(1.2, "factor of a step whose sign stayed", bounds="(1, inf)")
    min_step: float = hyper(1e-6, "shortest step", bounds="(0, inf)")
    max_step: float = hyper(50.0, "longest step", bounds="(0, inf)")

    def jax(self, setting: Setting) -> Rule:
        """optax.scale_by_rprop, on time, each step times the schedule's factor."""
        import optax

        from optbench.optimizers.standard.jax import rprop
        from optbench.rules.optax import OptaxRule

        steps = rprop(self.learning_rate, self.eta_minus, self.eta_plus, self.min_step, self.max_step)
        return OptaxRule(optax.chain(steps, optax.scale_by_learning_rate(setting.factor)))

    def torch(self, setting: Setting) -> Rule:
        """torch.optim.Rprop, each step times the schedule's factor."""
        import torch

        from optbench.rules.torch import ScaledRule

        make = partial(
            torch.optim.Rprop,
            lr=self.learning_rate,
            etas=(self.eta_minus, self.eta_plus),
            step_sizes=(self.min_step, self.max_step),
            foreach=True,
        )
        return ScaledRule(lambda named: make([p for _, p in named]), setting.factor)

    def frameworks(self) -> tuple[str, ...]:
        """Both."""
        return ("jax", "torch")


@declared
class SM3(Standard):
    """Adagrad with one accumulator for each index of each axis, and momentum.

    a_ij = min(row_i, col_j) + g_ij^2;  row_i <- max_j a_ij;  col_j <- max_i a_ij
    m <- b1 m + (1 - b1) g / sqrt(a);  theta <- theta - learning_rate m

    Likewise with more axes. optax's refuses parameters without an axis (scalars).
    """

    name: ClassVar[str] = "sm3"
    source: ClassVar[str] = "arXiv:1901.11150; optax.scale_by_sm3"
    memory: ClassVar[str] = "n + the sum of the axes' lengths"

    learning_rate: float = step_size(0.1, 1e-3)
    b1: float = decay(0.9, "the momentum")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.sm3, whose own learning rate takes no schedule."""
        return optax.chain(optax.scale_by_sm3(self.b1), optax.scale_by_learning_rate(rate))

    def state_floats(self, shapes: Shapes) -> int:
        """The momentum, and a number for each index of each axis."""
        return size(shapes) + sum(sum(shape) for shape in shapes.values())
