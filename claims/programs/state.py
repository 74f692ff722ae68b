"""The size of a method's state, counted in the state that its rule makes."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from optbench import optimizers
from optbench.optimizers.kron.jax import kron

from .training import built

Shapes = dict[str, list[int]]


def first_state(init: Any, shapes: Shapes) -> Any:
    leaves = {leaf: jax.ShapeDtypeStruct((*shape,), jnp.float32) for leaf, shape in shapes.items()}
    return jax.eval_shape(init, leaves)


def floats(methods: list[str], shapes: Shapes) -> dict[str, Any]:
    """The number of floating-point numbers in each method's state for leaves of these shapes."""
    kept = {}
    for name in methods:
        state = jax.tree.leaves(first_state(built(optimizers.parse(name)).init, shapes))
        kept[name] = sum(leaf.size for leaf in state if jnp.issubdtype(leaf.dtype, jnp.floating))
    return {"parameters": sum(map(math.prod, shapes.values())), "leaves": len(shapes), "floats": kept}


def factor_shapes(shapes: Shapes, modes: list[str | None]) -> dict[str, Any]:
    """The shapes of kron's factors of each leaf, in each mode of saving memory."""
    states = {mode: first_state(kron(memory_save_mode=mode).init, shapes)[0] for mode in modes}
    return {
        str(mode): {leaf: [list(q.shape) for q in state["Qs_preconditioners"][leaf]] for leaf in shapes}
        for mode, state in states.items()
    }
