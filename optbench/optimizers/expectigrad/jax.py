"""Expectigrad as an optax transformation; the mathematics is on the page of the room."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.fields import hyper
from optbench.optimizers.expectigrad import Expectigrad
from optbench.ranges import is_off
from optbench.rules.arguments import SCHEDULED, field, takes
from optbench.rules.optax_transform import checked, one_minus_power, wide, zeros

UPSTREAM = hyper(False, "keep sums and counters in the parameter's dtype, as the original")


ExpectigradState = namedtuple("ExpectigradState", "count sum counter momentum")
"""Steps taken; sum of squares; how many were not 0 (None: not counted); momentum (None: not kept)."""


@takes(
    Expectigrad,
    "lr beta eps sparse_counter * upstream",
    lr=field(Expectigrad, "learning_rate", doc=SCHEDULED),
    upstream=UPSTREAM,
)
def expectigrad(lr: Any, **options: Any) -> optax.GradientTransformationExtraArgs:
    """Expectigrad: the gradient over the root of its arithmetic mean square, then momentum.

    A gradient whose square underflows to 0 is not counted; XLA flushes subnormal squares on CPU, which in
    float32 are those of gradients below about 1e-19.
    """
    return optax.chain(scale_by_expectigrad(**options), optax.scale_by_learning_rate(lr))


@takes(Expectigrad, "beta eps sparse_counter * upstream", upstream=UPSTREAM)
def scale_by_expectigrad(
    beta: Any, eps: Any, sparse_counter: bool, upstream: bool
) -> optax.GradientTransformationExtraArgs:
    """`expectigrad` without learning rate."""
    moves = not is_off(beta)

    def init(params: Any) -> ExpectigradState:
        kept = (lambda dtype: dtype) if upstream else wide
        momentum = optax.tree.zeros_like(params) if moves else None
        count, total = jnp.zeros((), jnp.int32), zeros(params, kept)
        return ExpectigradState(count, total, zeros(params, kept) if sparse_counter else None, momentum)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ExpectigradState]:
        count = jnp.asarray(optax.safe_increment(state.count))
        squares = jax.tree.map(lambda g, s: g.astype(s.dtype) ** 2, updates, state.sum)
        total = jax.tree.map(jnp.add, state.sum, squares)
        if sparse_counter:
            counter = jax.tree.map(lambda n, q: n + jnp.sign(q), state.counter, squares)
            counts = counter
        else:
            counter, counts = None, jax.tree.map(lambda s: count.astype(s.dtype), total)

        def direction(g: jax.Array, s: jax.Array, n: jax.Array) -> jax.Array:
            mean = jnp.where(n == 0, 0, s / jnp.where(n == 0, 1, n))
            return g / (eps + jnp.sqrt(mean))

        scaled = jax.tree.map(direction, updates, total, counts)
        momentum = state.momentum
        if moves:
            momentum = jax.tree.map(
                lambda m, d: (beta * m + (1 - beta) * d).astype(m.dtype), momentum, scaled
            )
            scaled = jax.tree.map(lambda m: m / one_minus_power(beta, count, wide(m.dtype)), momentum)
        scaled = jax.tree.map(lambda u, g: u.astype(g.dtype), scaled, updates)
        return scaled, ExpectigradState(count, total, counter, momentum)

    return checked("expectigrad", optax.GradientTransformation(init, update))
