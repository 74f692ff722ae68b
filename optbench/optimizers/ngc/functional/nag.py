"""Nesterov's accelerated gradient in ngc-learn's functional form."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def step_update(param: Any, update: Any, phi_old: Any, eta: Any, mu: Any, time_step: Any) -> tuple[Any, Any]:
    """One step of one array at step `time_step` (from 1): the new param and phi."""
    phi = param - eta * update
    return phi + (phi - phi_old) * jnp.where(time_step > 1, mu, 0), phi


@jax.jit
def nag_init(theta: Any) -> tuple[list, jax.Array]:
    """The state before the first step: phi and the number of steps."""
    return [jnp.zeros(leaf.shape) for leaf in theta], jnp.asarray(0.0)


@jax.jit
def nag_step(
    opt_params: tuple[list, Any], theta: Any, updates: Any, eta: Any = 0.01, mu: Any = 0.9
) -> tuple[tuple[list, Any], list]:
    """One step of a list of arrays: the new state and the new list."""
    phi, time_step = opt_params
    time_step = time_step + 1
    new = [
        step_update(param, update, old, eta, mu, time_step)
        for param, update, old in zip(theta, updates, phi, strict=True)
    ]
    return ([phi for _, phi in new], time_step), [param for param, _ in new]
