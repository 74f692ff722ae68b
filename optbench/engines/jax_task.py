"""A task in JAX, tried once: what its loss and evaluation give, and what a gradient costs, also in a compiled loop.

XLA's convolutions run up to 34 times slower inside a compiled loop on a CPU than outside. This is measured once for
each task of some size and each machine, recorded, and warned of; it never changes how lanes run, since a measurement on
a busy machine must not decide under which key a result is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench import environment
from optbench.cell import DTYPES, Cell
from optbench.engines.jax_device import placed
from optbench.engines.jax_program import Lane
from optbench.engines.measured import quickest, remembered
from optbench.task import Task

PROBED_FROM = 1e8
"""FLOP of one gradient from which the probe is worth its two compilations: about a millisecond on one core."""
PATIENCE = 0.1
"""CPU seconds that each way of running is measured for; a step that takes longer is measured once."""


def tried(task: Task) -> dict[str, Any]:
    """Shapes and values of the loss, its gradient and the metrics at the first parameters; FLOP and numbers kept."""
    functions = task.jax()

    def put(tree: dict[str, Any]) -> Any:
        return placed({name: np.asarray(each) for name, each in tree.items()}, DTYPES[0])

    params, data = put(task.init(0)), put(task.data())
    draw = put({name: table[0] for name, table in task.draws(0, 0, 1).items()})
    loss = functions.loss(params, data, draw)
    facts: dict[str, Any] = {"loss_shape": list(jnp.shape(loss)), "loss": float(jnp.sum(loss))}
    if not facts["loss_shape"]:
        compiled = jax.jit(jax.grad(functions.loss)).lower(params, data, draw).compile()
        grads = compiled(params, data, draw)
        facts["gradient"] = {name: float(jnp.abs(grad).max()) for name, grad in grads.items()}
        costs: Any = compiled.cost_analysis() or {}
        memory = compiled.memory_analysis()
        facts["flops"] = float((costs[0] if isinstance(costs, list) else costs).get("flops", 0.0))
        facts["floats"] = int(memory.temp_size_in_bytes // 4) if memory is not None else 0
    metrics = functions.evaluate(params, data)
    facts["metrics"] = {name: list(jnp.shape(value)) for name, value in metrics.items()}
    return facts


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
        extra = {"value": jnp.zeros(()), "grad": params, "value_fn": lambda params: jnp.zeros(())}
        extra |= {"Hvp": params, "vector": params, "update_preconditioner": jnp.asarray(True)}
        return transform.update(params, transform.init(params), params, **extra)[0]

    updates = jax.eval_shape(update, first)
    if jax.tree.structure(updates) != jax.tree.structure(first):
        return {"": ((), str(jax.tree.structure(updates)))}
    return {name: (tuple(each.shape), str(each.dtype)) for name, each in updates.items()}


def loop_facts(cell: Cell, mode: str, put: Callable[[Any], Any]) -> dict[str, Any]:
    """How many times longer a gradient takes inside a compiled loop, for tasks of some size that run in one."""
    if mode == "loop" or cell.task.flops() < PROBED_FROM:
        return {}
    key = {
        "task": cell.task.spec(),
        "data": cell.task.data_hash(),
        "dtype": cell.dtype,
        "version": environment.version("jaxlib"),
        "device": environment.cpu_model(),
    }
    return {"loop_slowdown": remembered("loop", key, lambda: slowdown(cell, put))}


def slowdown(cell: Cell, put: Callable[[Any], Any]) -> float:
    """CPU seconds of one gradient inside a compiled loop, over those of one outside."""
    task, loss = cell.task, cell.task.jax().loss
    params, data = put(task.init(cell.seed)), put(task.data())
    draw = put({name: table[0] for name, table in task.draws(cell.seed, 0, 1).items()})

    def step(params: Any, data: Any, draw: Any) -> Any:
        grads = jax.grad(loss)(params, data, draw)
        # A step that moves nothing would be taken out of the loop.
        return jax.tree.map(lambda p, g: p - 1e-6 * g, params, grads)

    def steps(params: Any, data: Any, draw: Any, count: Any) -> Any:
        return jax.lax.fori_loop(0, count, lambda _, now: step(now, data, draw), params)

    def seconds(run: Callable[..., Any], *inputs: Any) -> float:
        def once():
            return jax.block_until_ready(run(params, data, draw, *inputs))

        return quickest(once, PATIENCE, least=1, clock=time.process_time)

    return seconds(jax.jit(steps), jnp.int32(1)) / seconds(jax.jit(step))
