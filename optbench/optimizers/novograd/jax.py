"""NovoGrad as an optax transformation; the mathematics is on the page of `optbench.optimizers.novograd`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.optimizers.novograd import check
from optbench.ranges import is_off


def novograd(
    learning_rate: float | Callable[[Any], Any],
    b1: float = 0.9,
    b2: float = 0.25,
    eps: float = 1e-6,
    eps_root: float = 0.0,
    weight_decay: float | Callable[[Any], Any] = 0.0,
    *,
    upstream: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """NovoGrad: gradients normalised layer by layer, then momentum.

    Args:
        learning_rate: step size, or a schedule evaluated at a count from 0.
        b1: decay of the momentum.
        b2: decay of the squared norm.
        eps: added to the norm.
        eps_root: added to the squared norm, under the root.
        weight_decay: decay inside the momentum, or a schedule; needs `params` in `update` unless it is 0.
        upstream: give optax's own transformation, which is NaN after a zero first gradient with eps = 0,
            takes no schedule for the decay and always needs `params`.

    Raises:
        ValueError: a hyperparameter is out of its range, or decay is asked for without `params`.
    """
    check(b1, b2, eps, eps_root, weight_decay)
    if upstream:
        return optax.novograd(learning_rate, b1, b2, eps, eps_root, weight_decay)
    return optax.chain(
        scale_by_novograd(b1, b2, eps, eps_root, weight_decay), optax.scale_by_learning_rate(learning_rate)
    )


def scale_by_novograd(
    b1: float = 0.9,
    b2: float = 0.25,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float | Callable[[Any], Any] = 0.0,
    mu_dtype: Any = None,
) -> optax.GradientTransformation:
    """`novograd` without learning rate; `mu_dtype` is the dtype of the momentum, None the parameter's."""
    check(b1, b2, eps, eps_root, weight_decay)

    def init(params: Any) -> optax.ScaleByNovogradState:
        return optax.ScaleByNovogradState(
            count=jnp.zeros((), jnp.int32),
            mu=optax.tree.zeros_like(params, dtype=mu_dtype),
            nu=jax.tree.map(lambda p: jnp.zeros((), p.dtype), params),
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByNovogradState]:
        first = state.count == 0

        def norm(g: jax.Array, nu: jax.Array) -> jax.Array:
            squared = jnp.sum(g * g)
            return jnp.where(first, squared, (1 - b2) * squared + b2 * nu).astype(nu.dtype)

        def direction(g: jax.Array, nu: jax.Array) -> jax.Array:
            divisor = jnp.sqrt(nu + eps_root) + eps
            return jnp.where(divisor > 0, g / jnp.where(divisor > 0, divisor, 1), 0)

        nu = jax.tree.map(norm, updates, state.nu)
        added = jax.tree.map(direction, updates, nu)
        if not is_off(weight_decay):
            if params is None:
                raise ValueError("novograd: weight_decay needs `params` in update(grads, state, params)")
            decay = weight_decay(state.count) if callable(weight_decay) else weight_decay
            added = jax.tree.map(lambda u, p: u + decay * p, added, params)
        # The first momentum is u itself: what was stored is 0.
        mu = jax.tree.map(lambda m, u: (b1 * m + u).astype(m.dtype), state.mu, added)
        return mu, optax.ScaleByNovogradState(optax.safe_increment(state.count), mu, nu)

    return optax.GradientTransformation(init, update)
