"""Descent along the gradient or its sign, with or without memory of the last ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

from optbench.fields import MOMENTUM, Search, hyper
from optbench.optimizers.adapter import Rate, Standard, decay, declared, flag, size, step_size, weight_decay
from optbench.optimizers.leafwise import At, Leafwise, State
from optbench.optimizers.sgd import SGD
from optbench.protocol import Shapes


@declared(source="Polyak 1964; optax.sgd, torch.optim.SGD")
class Momentum(SGD):
    """Heavy ball: descent along a decaying sum of gradients.

    m <- momentum m + g;  theta <- theta - learning_rate m
    """

    learning_rate: float = step_size(0.01, 1e-4)
    momentum: float = decay(0.9, "the sum of gradients; 0 keeps none", MOMENTUM)


@declared(source="Nesterov 1983, Sutskever et al. 2013; optax.sgd, torch.optim.SGD")
class Nesterov(SGD):
    """Nesterov's accelerated gradient, in the form of Sutskever et al.

    m <- momentum m + g;  theta <- theta - learning_rate (g + momentum m)
    """

    learning_rate: float = step_size(0.01, 1e-4)
    momentum: float = hyper(0.9, "decay of the sum of gradients", bounds="(0, 1)", lane=True, search=MOMENTUM)
    nesterov: bool = flag(True, "look ahead")


@declared(source="arXiv:1802.04434; optax.sign_sgd")
class SignSGD(Standard, optax="sign_sgd"):
    """Every entry moves by the learning rate, against the sign of its gradient.

    theta <- theta - learning_rate sign(g)
    """

    learning_rate: float = step_size(0.001, 1e-5)


@declared(source="arXiv:1802.04434; optax.signum")
class Signum(Standard, arrays=1):
    """The sign of a mean of gradients.

    m <- b1 m + (1 - b1) g;  theta <- theta - learning_rate sign(m)
    """

    learning_rate: float = step_size(0.001, 1e-5)
    b1: float = decay(0.9, "the mean of gradients", MOMENTUM)

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.signum(rate, self.b1)


@declared(source="arXiv:2302.06675")
class Lion(Leafwise, slots=("m",), elementwise=True):
    """The sign of a mix of the gradient and a slower mean of gradients; weight decay is decoupled.

    u = sign(b1 m + (1 - b1) g);  m <- b2 m + (1 - b2) g
    theta <- theta - learning_rate (u + weight_decay theta)
    """

    learning_rate: float = step_size(1e-4, 1e-5)
    b1: float = decay(0.9, "the mean in the step", MOMENTUM)
    b2: float = decay(0.99, "the mean that is kept")
    weight_decay: float = weight_decay(1e-3)

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        u = xp.np.sign(xp.ema(s["m"], g, self.b1))
        s["m"] = xp.ema(s["m"], g, self.b2)
        return -at.lr * (u + self.weight_decay * p)


@declared(source="arXiv:1711.00141; optax.optimistic_gradient_descent")
class OptimisticSGD(Standard, optax="optimistic_gradient_descent", arrays=1):
    """Descent along the gradient plus how it changed; made for games, where it damps the turning.

    theta <- theta - learning_rate ((alpha + beta) g_t - beta g_{t-1}),  g_0 = g_1
    """

    learning_rate: float = step_size(0.01, 3e-4)
    alpha: float = hyper(1.0, "weight of the gradient", bounds="(0, inf)")
    beta: float = hyper(1.0, "weight of its change", bounds="[0, inf)", lane=True, search=Search(0.1, 10.0))


@declared(source="Riedmiller and Braun 1993, doi:10.1109/ICNN.1993.298623; optax, torch.optim.Rprop")
class Rprop(Standard, arrays=2, elementwise=True, starts=True):
    """Resilient propagation: each entry has its own step, longer while the sign of its gradient stays.

        s = g_t g_{t-1};  step <- clip(eta_plus step where s > 0, eta_minus step where s < 0, min_step, max_step)
        g_t <- 0 where s < 0;  theta <- theta - step sign(g_t)

    The learning rate is the first step; a schedule scales every step that is taken. Made for full batches.
    `optax.rprop` (0.2.8) takes each step one iteration late; here it is taken at once, as torch.optim does.
    In JAX it is for real parameters; torch.optim's takes none that `fully_shard` shards, and reads the learning rate of
    a group at its first step only.
    """

    learning_rate: float = step_size(0.01, 1e-4)
    eta_minus: float = hyper(0.5, "factor of a step whose sign changed", bounds="(0, 1)")
    eta_plus: float = hyper(1.2, "factor of a step whose sign stayed", bounds="(1, inf)")
    min_step: float = hyper(1e-6, "shortest step", bounds="(0, inf)")
    max_step: float = hyper(50.0, "longest step", bounds="(0, inf)")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        from optbench.optimizers.standard.jax import rprop

        steps = rprop(self.learning_rate, self.eta_minus, self.eta_plus, self.min_step, self.max_step)
        return optax.chain(steps, optax.scale_by_learning_rate(rate))

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        etas, sizes = (self.eta_minus, self.eta_plus), (self.min_step, self.max_step)
        return partial(optim.Rprop, etas=etas, step_sizes=sizes, foreach=True)


@declared(source="arXiv:1901.11150", memory="n + the sum of the axes' lengths")
class SM3(Leafwise):
    """Adagrad with one accumulator for each index of each axis, and momentum.

        a_ij = min(row_i, col_j) + g_ij^2;  row_i <- max_j a_ij;  col_j <- max_i a_ij
        m <- b1 m + (1 - b1) g / sqrt(a);  theta <- theta - learning_rate m        no division where a is 0

    Likewise with other numbers of axes. `optax.sm3` adds 1e-8 inside the root, which the paper does not.
    """

    learning_rate: float = step_size(0.1, 1e-3)
    b1: float = decay(0.9, "the momentum", MOMENTUM)

    def start(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        axes = {f"a{i}": xp.full([1] * i + [n] + [1] * (p.ndim - i - 1), 0, p) for i, n in enumerate(p.shape)}
        return {"m": xp.zeros(p), **(axes or {"a0": xp.zeros(p)})}

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        places = range(max(p.ndim, 1))
        a = reduce(xp.np.minimum, (s[f"a{i}"] for i in places)) + g * g
        for i in places:
            s[f"a{i}"] = xp.largest(a, tuple(j for j in range(p.ndim) if j != i))
        s["m"] = xp.ema(s["m"], g * xp.inverse_root(a), self.b1)
        return -at.lr * s["m"]

    def state_floats(self, shapes: Shapes) -> int:
        return size(shapes) + sum(sum(shape) or 1 for shape in shapes.values())
