"""ESGD-M: equilibrated SGD with quasi-hyperbolic momentum, learning rate warmup and decoupled decay.

At step t = 1, 2, ... with gradient g and, on the steps where one is due, the product of the Hessian with
signs v in {-1, +1}:

    m <- b1 m + (1 - b1) g
    D <- b2 D + (1 - b2) (H v)^2              on the due steps only; k counts them
    d = sqrt(D / (1 - b2^k)) + eps
    r = learning_rate (1 - lr_warmup^t)
    e = m + (1 - nu) (g - m)
    theta <- theta (1 - weight_decay r) - r e / (d (1 - nu b1^t))

A product is due on the first `d_warmup` steps, then at every `update_d_every`-th: with the defaults on steps
1..20, 30, 40, ... `nu = b1` (the default) is Nesterov's momentum, 1 a plain average, 0 no momentum. sqrt(D)
estimates the norm of each row of H, so the step is that of a preconditioned method of second order; the path
does not change when the loss is scaled, up to eps.

A parameter that enters the loss linearly has a row of zeros. The original raises an error about
`create_graph` there; `upstream=True` of the torch class gives it back.

Source: Dauphin, de Vries, Bengio, Equilibrated adaptive learning rates for non-convex optimization,
arXiv:1502.04390; Ma, Yarats, Quasi-hyperbolic momentum, arXiv:1810.06801; package esgd (commit f0d40c5).
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from optbench.fields import MOMENTUM, hyper
from optbench.optimizers.adapter import Room, decay, declared, small, step_size, weight_decay
from optbench.protocol import Rule, Setting
from optbench.ranges import require

Mixing = namedtuple("Mixing", "b1 b2 nu")
"""The three coefficients of the averages, checked."""


def mixing(betas: Sequence[Any], nu: Any, v: Any) -> Mixing:
    """b1, b2 and nu, which older versions call v; None is b1."""
    if nu is not None and v is not None:
        raise ValueError(f"esgd: nu={nu!r} and v={v!r} are two names of one number; pass one of them")
    if len(betas) != 2:
        raise ValueError(f"esgd: betas={betas!r} must be two numbers in [0, 1)")
    b1, b2 = betas
    given = nu if v is None else v
    nu = b1 if given is None else given
    require("esgd", "[0, 1)", **{"betas[0]": b1, "betas[1]": b2})
    require("esgd", "[0, 1]", nu=nu)
    return Mixing(b1, b2, nu)


def is_due(t: Any, update_d_every: int, d_warmup: int) -> Any:
    """Whether the step t, counted from 0, asks for a Hessian-vector product."""
    return (t < d_warmup) | ((t - d_warmup + 1) % update_d_every == 0)


@declared
class ESGD(Room):
    __doc__ = __doc__
    source: ClassVar[str] = "arXiv:1502.04390, arXiv:1810.06801; esgd f0d40c5"
    order: ClassVar[int] = 2
    arrays: ClassVar[int] = 2

    learning_rate: float = step_size(1.0, 1e-3)
    b1: float = decay(0.9, "the momentum", MOMENTUM)
    b2: float = decay(0.999, "the curvature")
    nu: float | None = hyper(None, "weight of the momentum in the step; None is b1", bounds="[0, 1]")
    lr_warmup: float = hyper(0.99, "exponential warmup of the learning rate; 0 is none", bounds="[0, 1)")
    eps: float = small(1e-4, "added to the divisor")
    weight_decay: float = weight_decay()
    update_d_every: int = hyper(10, "steps between products after the first ones", bounds="[1, inf)")
    d_warmup: int = hyper(20, "first steps that all take a product", bounds="[1, inf)")

    def options(self) -> dict[str, Any]:
        options = super().options()
        return {"betas": (options.pop("b1"), options.pop("b2")), **options}

    def torch_rule(self, method: Callable[..., Any], setting: Setting) -> Rule:
        return super().torch_rule(partial(method, noise=setting.noise), setting)

    def jax_rule(self, factory: Callable[..., Any], setting: Setting) -> Rule:
        from optbench.optimizers.esgd.jax import signs
        from optbench.rules.optax import CurvatureRule

        return CurvatureRule(
            self.transformation(factory, setting),
            due=lambda state, t: is_due(t, self.update_d_every, self.d_warmup),
            probe=lambda t, params: signs(setting.noise, t, params),
        )

    def due_hvps(self, steps: int) -> int:
        return min(steps, self.d_warmup) + max(0, steps - self.d_warmup) // self.update_d_every


ALONE = {
    "betas": hyper(
        (ESGD.b1, ESGD.b2), "decay of the average gradient and of the average squared product; in [0, 1)"
    ),
    "v": hyper(None, "the older name of nu"),
}
"""What the factory and the class take beside the fields."""
