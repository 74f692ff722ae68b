"""The example of optax's docstring."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.optimizers.novograd.jax import novograd


def example(steps: int, learning_rate: float) -> dict[str, Any]:
    """The values that the docstring's loop prints, of optax's method and of ours."""

    def f(x: jax.Array) -> jax.Array:
        return jnp.sum(x**2)

    found: dict[str, list[str]] = {"optax": [], "ours": []}
    for shown, make in zip(found.values(), (optax.novograd, novograd), strict=True):
        solver, params = make(learning_rate), jnp.array([1.0, 2.0, 3.0])
        state = solver.init(params)
        for _ in range(steps):
            updates, state = solver.update(jax.grad(f)(params), state, params)
            params: Any = optax.apply_updates(params, updates)
            shown.append(f"{f(params):.2E}")
    return found
