"""A task in JAX, tried once: what its loss and evaluation give, and what a gradient costs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench.cell import DTYPES, Cell
from optbench.engines.jax_device import placed
from optbench.engines.jax_program import Lane
from optbench.task import Task


def tried(task: Task) -> dict[str, Any]:
    """Shapes and values of the loss, its gradient and the metrics at the first parameters; FLOP and numbers kept."""
    functions = task.jax()

    def put(tree: dict[str, Any]) -> Any:
        return placed({name: np.asarray(each) for name, each in tree.items()}, DTYPES[0])

    params, data = put(task.init(0)), put(task.data())
    draw = put({name: table[0] for name, table in task.draws(0, 0, 1).items()})
    loss = functions.loss(params, data, draw)
    found: dict[str, Any] = {"loss_shape": list(jnp.shape(loss)), "loss": float(jnp.sum(loss))}
    if not found["loss_shape"]:
        compiled = jax.jit(jax.grad(functions.loss)).lower(params, data, draw).compile()
        grads = compiled(params, data, draw)
        found["gradient"] = {name: float(jnp.abs(grad).max()) for name, grad in grads.items()}
        costs: Any = compiled.cost_analysis() or {}
        memory = compiled.memory_analysis()
        found["flops"] = float((costs[0] if isinstance(costs, list) else costs).get("flops", 0.0))
        found["floats"] = int(memory.temp_size_in_bytes // 4) if memory is not None else 0
    metrics = functions.evaluate(params, data)
    found["metrics"] = {name: list(jnp.shape(value)) for name, value in metrics.items()}
    return found


def update_facts(cell: Cell) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of what an optax transformation would add to each parameter; {} for any other rule.

    Under the name '' a tree of another structure than the parameters', as text.
    """
    lane = {"numbers": cell.optimizer.lane_numbers(), "noise": 0}
    rule = Lane(cell).rule(lane, {"factors": jnp.ones(1), "base": 0})
    transform = getattr(rule, "transform", None)
    if transform is None:
        return {}
    first = placed(cell.task.init(0), cell.dtype)

    def update(params: Any) -> Any:
        asked = {"value": jnp.zeros(()), "grad": params, "value_fn": lambda params: jnp.zeros(())}
        return transform.update(params, transform.init(params), params, **asked)[0]

    updates = jax.eval_shape(update, first)
    if jax.tree.structure(updates) != jax.tree.structure(first):
        return {"": ((), str(jax.tree.structure(updates)))}
    return {name: (tuple(each.shape), str(each.dtype)) for name, each in updates.items()}
