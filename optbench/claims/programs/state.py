"""How much state a method really keeps, counted in what its rule makes."""

from __future__ import annotations

import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench import optimizers
from optbench.optimizers.kron.jax import kron
from optbench.protocol import Setting
from optbench.rules.optax import KeyNoise

Shapes = dict[str, list[int]]


def floats(methods: list[str], shapes: Shapes) -> dict[str, Any]:
    """Numbers of state for each method on leaves of these shapes, and what of it is no larger than the leaf count."""
    return {
        "parameters": sum(math.prod(shape) for shape in shapes.values()),
        "leaves": len(shapes),
        "floats": {name: kept(name, shapes) for name in methods},
    }


def kept(name: str, shapes: Shapes) -> int:
    """Floating-point numbers in the state before the first step."""
    rule = optimizers.parse(name).jax(Setting(lambda t: 1.0, KeyNoise.seeded(0), 1))
    params = {leaf: jax.ShapeDtypeStruct(tuple(shape), jnp.float32) for leaf, shape in shapes.items()}
    state = jax.tree.leaves(jax.eval_shape(rule.init, params))
    return sum(leaf.size for leaf in state if jnp.issubdtype(leaf.dtype, jnp.floating))


def factor_shapes(shapes: Shapes, modes: list[str | None]) -> dict[str, Any]:
    """The shapes of kron's factors of each leaf, in each mode of saving memory."""
    found: dict[str, Any] = {}
    for mode in modes:
        params = {leaf: jax.ShapeDtypeStruct(tuple(shape), jnp.float32) for leaf, shape in shapes.items()}
        state: Any = jax.eval_shape(kron(memory_save_mode=mode).init, params)
        factors = state[0]["Qs_preconditioners"]
        found[str(mode)] = {leaf: [list(q.shape) for q in factors[leaf]] for leaf in shapes}
    return found


def arguments() -> dict[str, list[str]]:
    """The names that the factories of kron and of optax's Adam take, in order."""
    return {
        name: list(inspect.signature(make).parameters)
        for name, make in (("kron", kron), ("adam", optax.adam))
    }
