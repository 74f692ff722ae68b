"""ESGD-M as an optax transformation; the mathematics is on the page of `optbench.optimizers.esgd`."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.optimizers.esgd import ALONE, ESGD, is_due, mixing
from optbench.protocol import Noise
from optbench.ranges import is_off
from optbench.rules.arguments import SCHEDULED, at, rate, takes
from optbench.rules.optax import probes
from optbench.rules.optax_transform import one_minus_power, unmasked, wide, zeros

EsgdState = namedtuple("EsgdState", "count d_count exp_avg exp_avg_d")
"""Steps taken, products taken, average gradient, average squared product."""


@takes(
    ESGD,
    "lr betas nu lr_warmup eps weight_decay update_d_every d_warmup * v",
    lr=rate(ESGD, doc=SCHEDULED),
    **ALONE,
)
def esgd(
    lr, betas, nu, lr_warmup, eps, weight_decay, update_d_every, d_warmup, v
) -> optax.GradientTransformationExtraArgs:
    """ESGD-M: momentum divided by the estimated row norms of the Hessian.

    `update(grads, state, params, Hvp=, vector=, update_preconditioner=)` takes the product of the Hessian
    with signs (`signs` draws them) on the steps that are due (`due` says which); on the others pass any tree
    of the same shapes, such as zeros. `update_preconditioner` None is `due`. Weight decay needs `params`.

    Raises:
        ValueError: a hyperparameter is out of its range; `update` is called without `Hvp`, or asks for
            decay without `params`.
    """
    b1, b2, weight = mixing(betas, nu, v)

    def init(params: Any) -> EsgdState:
        # Two counters, not one array twice: a step that donates its state may use a buffer only once.
        count, d_count = (jnp.zeros((), jnp.int32) for _ in range(2))
        squares = zeros(params, wide)
        return EsgdState(count, d_count, optax.tree.zeros_like(params), squares)

    def update(updates: Any, state: Any, params=None, *, Hvp=None, update_preconditioner=None, **_: Any):
        if Hvp is None:
            raise ValueError("esgd: update needs Hvp and update_preconditioner; see `due` and `signs`")
        if params is None and not is_off(weight_decay):
            raise ValueError("esgd: weight_decay needs `params` in update(grads, state, params)")
        fitted = is_due(state.count, update_d_every, d_warmup)
        if update_preconditioner is not None:
            fitted = jnp.asarray(update_preconditioner)
        count = optax.safe_increment(state.count)
        d_count = jnp.where(fitted, optax.safe_increment(state.d_count), state.d_count)
        step_size = at(lr, state.count)

        def average(m: jax.Array, g: jax.Array) -> jax.Array:
            return (b1 * m + (1 - b1) * g).astype(m.dtype)

        def curvature(d: jax.Array, hvp: jax.Array) -> jax.Array:
            hvp = hvp.astype(d.dtype)
            return jnp.where(fitted, (b2 * d + (1 - b2) * hvp * hvp).astype(d.dtype), d)

        def step(g: jax.Array, m: jax.Array, d: jax.Array) -> jax.Array:
            eta = step_size * one_minus_power(lr_warmup, count, d.dtype)
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
            shrink = weight_decay * step_size
            moves = jax.tree.map(
                lambda u, p: u - shrink * one_minus_power(lr_warmup, count, u.dtype) * p, moves, params
            )
        moves = jax.tree.map(lambda u, g: u.astype(g.dtype), moves, updates)
        return moves, EsgdState(count, d_count, exp_avg, exp_avg_d)

    return optax.GradientTransformationExtraArgs(init, update)


@takes(ESGD, "update_d_every d_warmup")
def due(state_or_count: Any, update_d_every: int, d_warmup: int) -> Any:
    """Whether the next update asks for a Hessian-vector product; takes a state of `esgd` or its count."""
    return is_due(getattr(state_or_count, "count", state_or_count), update_d_every, d_warmup)


def signs(noise: Noise, step: Any, tree: Any) -> Any:
    """A probe of -1 and +1 for each leaf: the signs of the normal draws named `probe.<leaf>`.

    A table of recorded signs feeds through unchanged.
    """
    return jax.tree.map(lambda x: jnp.where(x < 0, -1, 1).astype(x.dtype), probes(noise, step, tree))
