"""NovoGrad as an optax transformation; the mathematics is on the page of `optbench.optimizers.novograd`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.fields import hyper
from optbench.optimizers.novograd import Novograd
from optbench.ranges import is_off
from optbench.rules.arguments import SCHEDULED, at, field, takes
from optbench.rules.optax_transform import checked, wide


@takes(
    Novograd,
    "learning_rate b1 b2 eps eps_root weight_decay * upstream",
    learning_rate=hyper(doc=SCHEDULED),
    upstream=hyper(False, "give optax's own transformation"),
)
def novograd(learning_rate: Any, upstream: bool, **options: Any) -> optax.GradientTransformationExtraArgs:
    """NovoGrad: gradients normalised layer by layer, then momentum.

    The weight decay may be a schedule too, and needs `params` in `update` unless it is 0. optax's own transformation
    is NaN after a zero first gradient with eps = 0, takes no schedule for the decay and always needs `params`.

    Raises:
        ValueError: a hyperparameter is out of its range, or decay is asked for without `params`.
    """
    if upstream:
        return optax.novograd(learning_rate, **options)
    return optax.chain(scale_by_novograd(**options), optax.scale_by_learning_rate(learning_rate))


@takes(
    Novograd,
    "b1 b2 eps eps_root weight_decay mu_dtype",
    eps=field(Novograd, "eps", default=1e-8),
    mu_dtype=hyper(None, "dtype of the momentum, None the parameter's"),
)
def scale_by_novograd(
    b1: Any, b2: Any, eps: Any, eps_root: Any, weight_decay: Any, mu_dtype: Any
) -> optax.GradientTransformationExtraArgs:
    """`novograd` without learning rate."""

    def init(params: Any) -> optax.ScaleByNovogradState:
        return optax.ScaleByNovogradState(
            count=jnp.zeros((), jnp.int32),
            mu=optax.tree.zeros_like(params, dtype=mu_dtype),
            nu=jax.tree.map(lambda p: jnp.zeros((), wide(p.dtype)), params),
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByNovogradState]:
        first = state.count == 0

        def norm(g: jax.Array, nu: jax.Array) -> jax.Array:
            wider = g.astype(nu.dtype)
            squared = jnp.sum(wider * wider)
            return jnp.where(first, squared, (1 - b2) * squared + b2 * nu).astype(nu.dtype)

        def direction(g: jax.Array, nu: jax.Array) -> jax.Array:
            divisor = jnp.sqrt(nu + eps_root) + eps
            divides = divisor != 0  # not `divisor > 0`, which a NaN fails too
            return jnp.where(divides, g / jnp.where(divides, divisor, 1), 0)

        nu = jax.tree.map(norm, updates, state.nu)
        added = jax.tree.map(direction, updates, nu)
        if not is_off(weight_decay):
            if params is None:
                raise ValueError("novograd: weight_decay needs `params` in update(grads, state, params)")
            decay = at(weight_decay, state.count)
            added = jax.tree.map(lambda u, p: u + decay * p, added, params)
        # The first momentum is u itself: what was stored is 0.
        mu = jax.tree.map(lambda m, u: (b1 * m + u).astype(m.dtype), state.mu, added)
        return mu, optax.ScaleByNovogradState(optax.safe_increment(state.count), mu, nu)

    return checked("novograd", optax.GradientTransformation(init, update))
