"""Gradient descent in ngc-learn's functional form."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def step_update(param: Any, update: Any, eta: Any) -> Any:
    """One step of one array."""
    return param - eta * update


@jax.jit
def sgd_init(theta: Any) -> jax.Array:
    """The state before the first step: the number of steps."""
    return jnp.asarray(0.0)


@jax.jit
def sgd_step(opt_params: Any, theta: Any, updates: Any, eta: Any = 0.001) -> tuple[Any, list]:
    """One step of a list of arrays: the new state and the new list."""
    return opt_params + 1, [
        step_update(param, update, eta) for param, update in zip(theta, updates, strict=True)
    ]
