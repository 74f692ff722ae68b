"""Does a task's gradient run slower inside a compiled loop than outside? XLA's convolutions do on a CPU, 34 times.

Asked once for each task of some size and machine, before its first program is compiled. The answer is recorded
and warned of; it never changes how lanes run, because the mode is part of what a result is found by, and a
measurement on a busy machine must not decide under which name a result is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optbench import environment
from optbench.cell import Cell
from optbench.engines.jax_program import Lane
from optbench.engines.lanes import Inputs
from optbench.engines.measured import remembered

ASKED_FROM = 1e8
"""FLOP of one gradient from which the question is worth its two compilations: about a millisecond on one core."""
PATIENCE = 0.1
"""CPU seconds that each way of running is measured for; a step that takes longer is measured once."""


def loop_facts(inputs: Inputs, mode: str, put: Callable[[Any], Any]) -> dict[str, Any]:
    """How many times longer a gradient takes inside a compiled loop, where the question is worth asking."""
    cell = inputs.cell
    if mode == "loop" or cell.task.flops() < ASKED_FROM:
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
    lane, task = Lane(cell), cell.task
    params, data = put(task.init(cell.seed)), put(task.data())
    draw = put({name: table[0] for name, table in task.draws(cell.seed, 0, 1).items()})

    def step(params: Any, data: Any, draw: Any) -> Any:
        grads = jax.grad(lane.loss)(params, data, draw)
        # A step that moves nothing would be taken out of the loop.
        return jax.tree.map(lambda p, g: p - 1e-6 * g, params, grads)

    def steps(params: Any, data: Any, draw: Any, count: Any) -> Any:
        return jax.lax.fori_loop(0, count, lambda _, now: step(now, data, draw), params)

    inside, outside, one = jax.jit(steps), jax.jit(step), jnp.int32(1)
    return cpu_seconds(lambda: inside(params, data, draw, one)) / cpu_seconds(
        lambda: outside(params, data, draw)
    )


def cpu_seconds(run: Callable[[], Any]) -> float:
    """The least processor time of a few runs, after one that compiles."""
    jax.block_until_ready(run())
    best, spent = float("inf"), 0.0
    while spent < PATIENCE:
        begun = time.process_time()
        jax.block_until_ready(run())
        took = time.process_time() - begun
        best, spent = min(best, took), spent + max(took, 1e-4)
    return best
