"""Nesterov's accelerated gradient in ngc-learn's functional form."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optbench.optimizers.ngc import rule


def step_update(param: Any, update: Any, phi_old: Any, eta: Any, mu: Any, time_step: Any) -> tuple[Any, Any]:
    """One step of one array at step `time_step` (from 1): the new param and phi."""
    phi = param - eta * update
    return phi + (phi - phi_old) * jnp.where(time_step > 1, mu, 0), phi


nag_init, nag_step = map(jax.jit, rule("nag", jnp, float, step_update, 1, eta=0.01, mu=0.9))
