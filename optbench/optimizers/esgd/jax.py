"""ESGD-M as an optax transformation; the mathematics is on the page of `optbench.optimizers.esgd`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optbench.optimizers.esgd import check, is_due, mixing
from optbench.protocol import Noise
from optbench.ranges import is_off
from optbench.rules.optax import probes
from optbench.rules.optax_transform import one_minus_power, unmasked, wide


class EsgdState(NamedTuple):
    """Steps taken, products taken, average gradient, average squared product."""

    count: Any
    d_count: Any
    exp_avg: Any
    exp_avg_d: Any


def esgd(
    lr: float | Callable[[Any], Any] = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    nu: float | None = None,
    lr_warmup: float = 0.99,
    eps: float = 1e-4,
    weight_decay: float = 0.0,
    update_d_every: int = 10,
    d_warmup: int = 20,
    *,
    v: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """ESGD-M: momentum divided by the estimated row norms of the Hessian.

    `update(grads, state, params, Hvp=, vector=, update_preconditioner=)` takes the product of the Hessian
    with signs (`signs` draws them) on the steps that are due (`due` says which); on the others pass any tree
    of the same shapes, such as zeros. `update_preconditioner` None is `due`.

    Args:
        lr: step size, or a schedule evaluated at a count from 0.
        betas: decay of the average gradient and of the average squared product.
        nu: weight of the average in the step; None is betas[0].
        lr_warmup: decay of the exponential warmup; 0 is none.
        eps: added to the divisor.
        weight_decay: decoupled decay times the step size; needs `params` in `update` unless it is 0.
        update_d_every: steps between products after the first ones.
        d_warmup: first steps that all take a product.
        v: the older name of nu.

    Raises:
        ValueError: a hyperparameter is out of its range; `update` is called without `Hvp`, or asks for
            decay without `params`.
    """
    b1, b2, weight = mixing(betas, nu, v)
    check(lr, lr_warmup, eps, weight_decay, update_d_every, d_warmup)

    def init(params: Any) -> EsgdState:
        # Two counters, not one array twice: a step that donates its state may use a buffer only once.
        count, d_count = (jnp.zeros((), jnp.int32) for _ in range(2))
        squares = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=wide(p.dtype)), params)
        return EsgdState(count, d_count, optax.tree.zeros_like(params), squares)

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        Hvp: Any = None,
        vector: Any = None,
        update_preconditioner: Any = None,
        **_: Any,
    ) -> tuple[Any, EsgdState]:
        if Hvp is None:
            raise ValueError("esgd: update needs Hvp and update_preconditioner; see `due` and `signs`")
        if params is None and not is_off(weight_decay):
            raise ValueError("esgd: weight_decay needs `params` in update(grads, state, params)")
        fitted = is_due(state.count, update_d_every, d_warmup)
        if update_preconditioner is not None:
            fitted = jnp.asarray(update_preconditioner)
        count = optax.safe_increment(state.count)
        d_count = jnp.where(fitted, optax.safe_increment(state.d_count), state.d_count)
        rate = lr(state.count) if callable(lr) else lr

        def average(m: jax.Array, g: jax.Array) -> jax.Array:
            return (b1 * m + (1 - b1) * g).astype(m.dtype)

        def curvature(d: jax.Array, hvp: jax.Array) -> jax.Array:
            hvp = hvp.astype(d.dtype)
            return jnp.where(fitted, (b2 * d + (1 - b2) * hvp * hvp).astype(d.dtype), d)

        def step(g: jax.Array, m: jax.Array, d: jax.Array) -> jax.Array:
            eta = rate * one_minus_power(lr_warmup, count, d.dtype)
            # 1 - weight b1^t as a sum of two positive numbers, so that nothing cancels.
            momentum_correction = (1 - weight) + weight * one_minus_power(b1, count, d.dtype)
            correction = jnp.where(d_count > 0, one_minus_power(b2, d_count, d.dtype), 1)
            mixed = (m + (1 - weight) * (g - m)).astype(d.dtype)
            divisor = jnp.sqrt(d) / jnp.sqrt(correction) + eps
            return -jnp.asarray(eta / momentum_correction, d.dtype) * mixed / divisor

        exp_avg = jax.tree.map(average, state.exp_avg, updates)
        exp_avg_d = jax.tree.map(curvature, state.exp_avg_d, unmasked(updates, Hvp))
        moves = jax.tree.map(step, updates, exp_avg, exp_avg_d)
        if not is_off(weight_decay):
            shrink = weight_decay * rate
            moves = jax.tree.map(
                lambda u, p: u - shrink * one_minus_power(lr_warmup, count, u.dtype) * p, moves, params
            )
        moves = jax.tree.map(lambda u, g: u.astype(g.dtype), moves, updates)
        return moves, EsgdState(count, d_count, exp_avg, exp_avg_d)

    return optax.GradientTransformationExtraArgs(init, update)


def due(state_or_count: Any, update_d_every: int = 10, d_warmup: int = 20) -> Any:
    """Whether the next update asks for a Hessian-vector product; takes a state of `esgd` or its count."""
    return is_due(getattr(state_or_count, "count", state_or_count), update_d_every, d_warmup)


def signs(noise: Noise, step: Any, tree: Any) -> Any:
    """A probe of -1 and +1 for each leaf: the signs of the normal draws named `probe.<leaf>`.

    A table of recorded signs feeds through unchanged.
    """
    return jax.tree.map(lambda x: jnp.where(x < 0, -1, 1).astype(x.dtype), probes(noise, step, tree))
