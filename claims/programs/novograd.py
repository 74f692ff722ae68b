"""The example of optax's docstring, and what the document's largest claim would take on this machine."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.optimizers.novograd.jax import novograd

from . import interleaved


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


def throughput(size: int, rounds: int) -> dict[str, Any]:
    """FLOP a second of one core in matrix products, which is more than any network reaches."""
    matrix = jnp.ones((size, size))
    product = jax.jit(lambda n: jax.lax.fori_loop(0, n, lambda _, x: x @ matrix / size, matrix))
    spent = interleaved({"product": lambda n: jax.block_until_ready(product(n))}, 20, rounds)
    return {"flops": 2e6 * size**3 / spent["product"]}
