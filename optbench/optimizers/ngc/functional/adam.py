"""Adam in ngc-learn's functional form."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def step_update(
    param: Any, update: Any, g1: Any, g2: Any, eta: Any, beta1: Any, beta2: Any, time_step: Any, eps: Any
) -> tuple[Any, Any, Any]:
    """One Adam step of one array at step `time_step` (from 1): the new param, g1 and g2."""
    g1 = beta1 * g1 + (1 - beta1) * update
    g2 = beta2 * g2 + (1 - beta2) * update**2
    divisor = jnp.sqrt(g2 / (1 - jnp.power(beta2, time_step))) + eps
    return param - eta * (g1 / (1 - jnp.power(beta1, time_step))) / divisor, g1, g2


@jax.jit
def adam_init(theta: Any) -> tuple[list, list, jax.Array]:
    """The state before the first step: g1, g2 and the number of steps."""
    g1, g2 = ([jnp.zeros(leaf.shape) for leaf in theta] for _ in range(2))
    return g1, g2, jnp.asarray(0.0)


@jax.jit
def adam_step(
    opt_params: tuple[list, list, Any],
    theta: Any,
    updates: Any,
    eta: Any = 0.001,
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    eps: Any = 1e-8,
) -> tuple[tuple[list, list, Any], list]:
    """One Adam step of a list of arrays: the new state and the new list."""
    g1, g2, time_step = opt_params
    time_step = time_step + 1
    new = [
        step_update(param, update, m, s, eta, beta1, beta2, time_step, eps)
        for param, update, m, s in zip(theta, updates, g1, g2, strict=True)
    ]
    return ([g1 for _, g1, _ in new], [g2 for _, _, g2 in new], time_step), [param for param, _, _ in new]
