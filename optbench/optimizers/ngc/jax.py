"""The rules of ngc-learn as optax transformations; the mathematics is on the pages of their dataclasses."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.optimizers.ngc import NgcAdam, NgcNag, NgcSgd, weight
from optbench.rules.arguments import SCHEDULED, at, field, rate, takes
from optbench.rules.optax_transform import checked, one_minus_power, rounded, wide, zeros

NgcAdamState = namedtuple("NgcAdamState", "g1 g2 time_step")
NgcNagState = namedtuple("NgcNagState", "phi time_step")
NgcSgdState = namedtuple("NgcSgdState", "time_step")


def advanced(state: Any) -> jax.Array:
    return jnp.asarray(optax.safe_increment(state.time_step))


@takes(
    NgcAdam,
    "eta beta1 beta2 eps",
    eta=rate(NgcAdam, doc=SCHEDULED),
    beta1=field(NgcAdam, "b1"),
    beta2=field(NgcAdam, "b2"),
)
def ngc_adam(eta: Any, beta1: Any, beta2: Any, eps: Any) -> optax.GradientTransformationExtraArgs:
    """Adam as in ngc-learn."""

    def init(params: Any) -> NgcAdamState:
        return NgcAdamState(zeros(params, wide), zeros(params, wide), jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, NgcAdamState]:
        t, step = advanced(state), at(eta, state.time_step)

        def average(beta: Any, default: float, power: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
            def one(m: jax.Array, u: jax.Array) -> jax.Array:
                b = rounded(beta, m.dtype)
                return (b * m + weight(beta, default, b) * u.astype(m.dtype) ** power).astype(m.dtype)

            return one

        def move(u: jax.Array, g1: jax.Array, g2: jax.Array) -> jax.Array:
            kept = g1.dtype
            mean = g1 / one_minus_power(rounded(beta1, kept), t, kept)
            square = g2 / one_minus_power(rounded(beta2, kept), t, kept)
            return (-step * mean / (jnp.sqrt(square) + eps)).astype(u.dtype)

        g1 = jax.tree.map(average(beta1, NgcAdam.b1, 1), state.g1, updates)
        g2 = jax.tree.map(average(beta2, NgcAdam.b2, 2), state.g2, updates)
        return jax.tree.map(move, updates, g1, g2), NgcAdamState(g1, g2, t)

    return checked("ngc_adam", optax.GradientTransformation(init, update))


@takes(NgcNag, "eta mu", eta=rate(NgcNag, doc=SCHEDULED), mu=field(NgcNag, "momentum"))
def ngc_nag(eta: Any, mu: Any) -> optax.GradientTransformationExtraArgs:
    """Nesterov's accelerated gradient as in ngc-learn; `update` needs `params`.

    Raises:
        ValueError: a hyperparameter is out of its range; `update` is called without `params`.
    """

    def init(params: Any) -> NgcNagState:
        return NgcNagState(zeros(params, wide), jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, NgcNagState]:
        if params is None:
            raise ValueError("ngc_nag: pass `params` to update(updates, state, params)")
        t, step = advanced(state), at(eta, state.time_step)
        weight = jnp.where(t > 1, mu, 0)
        phi = jax.tree.map(lambda o, p, u: (p - step * u).astype(o.dtype), state.phi, params, updates)

        def move(u: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
            return (weight.astype(old.dtype) * (new - old) - step * u).astype(u.dtype)

        return jax.tree.map(move, updates, phi, state.phi), NgcNagState(phi, t)

    return optax.with_extra_args_support(optax.GradientTransformation(init, update))


@takes(NgcSgd, "eta", eta=rate(NgcSgd, doc=SCHEDULED))
def ngc_sgd(eta: Any) -> optax.GradientTransformationExtraArgs:
    """Gradient descent as in ngc-learn."""

    def init(params: Any) -> NgcSgdState:
        return NgcSgdState(jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, NgcSgdState]:
        step = at(eta, state.time_step)
        return jax.tree.map(lambda u: (-step * u).astype(u.dtype), updates), NgcSgdState(advanced(state))

    return optax.with_extra_args_support(optax.GradientTransformation(init, update))
