"""The rules of ngc-learn as optax transformations; the mathematics is on the pages of their dataclasses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optbench.optimizers.ngc import check_adam, check_rate
from optbench.ranges import require
from optbench.rules.optax_transform import one_minus_power, rounded, wide

Rate = float | Callable[[Any], Any]


class NgcAdamState(NamedTuple):
    """The two averages and the number of steps."""

    g1: Any
    g2: Any
    time_step: Any


class NgcNagState(NamedTuple):
    """The last plain step and the number of steps."""

    phi: Any
    time_step: Any


class NgcSgdState(NamedTuple):
    """The number of steps."""

    time_step: Any


def wide_zeros(params: Any) -> Any:
    """Zeros like the parameters, in at least float32."""
    return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=wide(p.dtype)), params)


def rate_at(eta: Rate, state: Any) -> Any:
    """The step size; a schedule is evaluated at a count from 0."""
    return eta(state.time_step) if callable(eta) else eta


def advanced(state: Any) -> jax.Array:
    """The number of this step, from 1."""
    return jnp.asarray(optax.safe_increment(state.time_step))


def ngc_adam(
    eta: Rate = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam as in ngc-learn.

    Args:
        eta: step size, or a schedule evaluated at a count from 0.
        beta1: decay of the average gradient.
        beta2: decay of the average square.
        eps: added to the divisor.

    Raises:
        ValueError: a hyperparameter is out of its range.
    """
    check_rate("ngc_adam", eta=eta)
    check_adam(beta1, beta2, eps)

    def init(params: Any) -> NgcAdamState:
        return NgcAdamState(wide_zeros(params), wide_zeros(params), jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, NgcAdamState]:
        t, rate = advanced(state), rate_at(eta, state)

        def average(beta: Any, power: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
            def one(m: jax.Array, u: jax.Array) -> jax.Array:
                b = rounded(beta, m.dtype)
                return (b * m + (1 - b) * u.astype(m.dtype) ** power).astype(m.dtype)

            return one

        def move(u: jax.Array, g1: jax.Array, g2: jax.Array) -> jax.Array:
            kept = g1.dtype
            mean = g1 / one_minus_power(rounded(beta1, kept), t, kept)
            square = g2 / one_minus_power(rounded(beta2, kept), t, kept)
            return (-rate * mean / (jnp.sqrt(square) + eps)).astype(u.dtype)

        g1 = jax.tree.map(average(beta1, 1), state.g1, updates)
        g2 = jax.tree.map(average(beta2, 2), state.g2, updates)
        return jax.tree.map(move, updates, g1, g2), NgcAdamState(g1, g2, t)

    return optax.GradientTransformation(init, update)


def ngc_nag(eta: Rate = 0.01, mu: float = 0.9) -> optax.GradientTransformation:
    """Nesterov's accelerated gradient as in ngc-learn; `update` needs `params`.

    Args:
        eta: step size, or a schedule evaluated at a count from 0.
        mu: weight of the last move.

    Raises:
        ValueError: a hyperparameter is out of its range; `update` is called without `params`.
    """
    check_rate("ngc_nag", eta=eta)
    require("ngc_nag", "[0, 1)", mu=mu)

    def init(params: Any) -> NgcNagState:
        return NgcNagState(wide_zeros(params), jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, NgcNagState]:
        if params is None:
            raise ValueError("ngc_nag: pass `params` to update(updates, state, params)")
        t, rate = advanced(state), rate_at(eta, state)
        weight = jnp.where(t > 1, mu, 0)
        phi = jax.tree.map(lambda o, p, u: (p - rate * u).astype(o.dtype), state.phi, params, updates)

        def move(u: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
            return (weight.astype(old.dtype) * (new - old) - rate * u).astype(u.dtype)

        return jax.tree.map(move, updates, phi, state.phi), NgcNagState(phi, t)

    return optax.GradientTransformation(init, update)


def ngc_sgd(eta: Rate = 0.001) -> optax.GradientTransformation:
    """Gradient descent as in ngc-learn.

    Args:
        eta: step size, or a schedule evaluated at a count from 0.

    Raises:
        ValueError: the step size is out of its range.
    """
    check_rate("ngc_sgd", eta=eta)

    def init(params: Any) -> NgcSgdState:
        return NgcSgdState(jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, NgcSgdState]:
        rate = rate_at(eta, state)
        return jax.tree.map(lambda u: (-rate * u).astype(u.dtype), updates), NgcSgdState(advanced(state))

    return optax.GradientTransformation(init, update)
