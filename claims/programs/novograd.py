"""The example of optax's docstring."""

from typing import Any

import jax.numpy as jnp
import optax

from optbench.optimizers.novograd.jax import novograd


def example(steps: int, learning_rate: float) -> dict[str, Any]:
    """The values that the docstring's loop prints, of optax's method and of ours."""
    printed: dict[str, list[str]] = {"optax": [], "ours": []}
    for lines, make in zip(printed.values(), (optax.novograd, novograd), strict=True):
        solver, params = make(learning_rate), jnp.array([1.0, 2.0, 3.0])
        state = solver.init(params)
        for _ in range(steps):
            updates, state = solver.update(2 * params, state, params)
            params: Any = optax.apply_updates(params, updates)
            lines.append(f"{jnp.sum(params**2):.2E}")
    return printed
