"""Expectigrad as an optax transformation; the mathematics is on the page of the room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optbench.optimizers.expectigrad import check
from optbench.ranges import is_off
from optbench.rules.optax_transform import one_minus_power, wide


class ExpectigradState(NamedTuple):
    """Steps taken; sum of squares; how many were not 0 (None: not counted); momentum (None: not kept)."""

    count: Any
    sum: Any
    counter: Any
    momentum: Any


def expectigrad(
    lr: float | Callable[[Any], Any] = 0.001,
    beta: float = 0.9,
    eps: float = 1e-8,
    sparse_counter: bool = True,
    *,
    upstream: bool = False,
) -> optax.GradientTransformation:
    """Expectigrad: the gradient over the root of its arithmetic mean square, then momentum.

    A gradient whose square underflows to 0 is not counted; XLA flushes subnormal squares on CPU, which in
    float32 are those of gradients below about 1e-19.

    Args:
        lr: step size, or a schedule evaluated at a count from 0.
        beta: decay of the momentum; 0 keeps no momentum.
        eps: added to the divisor.
        sparse_counter: count, entry by entry, only the steps with a gradient.
        upstream: keep sums and counters in the parameter's dtype, as the original.

    Raises:
        ValueError: a hyperparameter is out of its range.
    """
    check(lr, beta, eps)
    return optax.chain(
        scale_by_expectigrad(beta, eps, sparse_counter, upstream=upstream), optax.scale_by_learning_rate(lr)
    )


def scale_by_expectigrad(
    beta: float = 0.9, eps: float = 1e-8, sparse_counter: bool = True, *, upstream: bool = False
) -> optax.GradientTransformation:
    """`expectigrad` without learning rate; the arguments are those of `expectigrad`."""
    check(1.0, beta, eps)
    moves = not is_off(beta)

    def init(params: Any) -> ExpectigradState:
        def zeros() -> Any:
            kept = (lambda p: p.dtype) if upstream else (lambda p: wide(p.dtype))
            return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=kept(p)), params)

        momentum = optax.tree.zeros_like(params) if moves else None
        return ExpectigradState(
            jnp.zeros((), jnp.int32), zeros(), zeros() if sparse_counter else None, momentum
        )

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
            mean = jnp.where(n > 0, s / jnp.where(n > 0, n, 1), 0)
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

    return optax.GradientTransformation(init, update)
