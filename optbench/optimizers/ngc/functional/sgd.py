"""Gradient descent in ngc-learn's functional form."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optbench.optimizers.ngc import rule


def step_update(param: Any, update: Any, eta: Any) -> Any:
    """One step of one array."""
    return param - eta * update


sgd_init, sgd_step = map(jax.jit, rule("sgd", jnp, float, step_update, 0, eta=0.001))
