"""How much state a method really keeps, counted in what its rule makes."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from optbench import optimizers
from optbench.optimizers.kron.jax import kron

from .training import built

Shapes = dict[str, list[int]]


def first_state(init: Any, shapes: Shapes) -> Any:
    """The shapes of the state before the first step."""
    return jax.eval_shape(
        init, {leaf: jax.ShapeDtypeStruct((*s,), jnp.float32) for leaf, s in shapes.items()}
    )


def floats(methods: list[str], shapes: Shapes) -> dict[str, Any]:
    """How many floating-point numbers each method keeps for leaves of these shapes."""

    def kept(name: str) -> int:
        state = jax.tree.leaves(first_state(built(optimizers.parse(name)).init, shapes))
        return sum(leaf.size for leaf in state if jnp.issubdtype(leaf.dtype, jnp.floating))

    parameters = sum(math.prod(shape) for shape in shapes.values())
    return {"parameters": parameters, "leaves": len(shapes), "floats": {name: kept(name) for name in methods}}


def factor_shapes(shapes: Shapes, modes: list[str | None]) -> dict[str, Any]:
    """The shapes of kron's factors of each leaf, in each mode of saving memory."""
    found: dict[str, Any] = {}
    for mode in modes:
        factors = first_state(kron(memory_save_mode=mode).init, shapes)[0]["Qs_preconditioners"]
        found[str(mode)] = {leaf: [list(q.shape) for q in factors[leaf]] for leaf in shapes}
    return found
