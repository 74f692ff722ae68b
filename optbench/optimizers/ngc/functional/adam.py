"""Adam in ngc-learn's functional form."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optbench.optimizers.ngc import rule


def step_update(
    param: Any, update: Any, g1: Any, g2: Any, eta: Any, beta1: Any, beta2: Any, time_step: Any, eps: Any
) -> tuple[Any, Any, Any]:
    """One Adam step of one array at step `time_step` (from 1): the new param, g1 and g2."""
    g1 = beta1 * g1 + (1 - beta1) * update
    g2 = beta2 * g2 + (1 - beta2) * update**2
    divisor = jnp.sqrt(g2 / (1 - jnp.power(beta2, time_step))) + eps
    return param - eta * (g1 / (1 - jnp.power(beta1, time_step))) / divisor, g1, g2


adam_init, adam_step = map(
    jax.jit, rule("adam", jnp, float, step_update, 2, eta=0.001, beta1=0.9, beta2=0.999, eps=1e-8)
)
