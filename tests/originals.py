"""Golden traces of other optimizers' original implementations: loading them, and replaying them.

Each original was fed the same stream of gradients from the same start; a trace holds its parameters after each step.
"""

import functools
import json
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tests.traces import FOLDER, close_trees

Tree = dict[str, np.ndarray]
Step = dict[str, Any]


@dataclass(frozen=True)
class Trace:
    """A run of an original. `steps[t]` holds "grads" and "params" by leaf, and what else was recorded at each step.

    `hyperparameters` are those passed, the others stood at the original's defaults; `groups` are the parameter groups,
    each with its "leaves" and its own options; `draws` are the arrays that are not by leaf, whole.
    """

    optimizer: str
    source: str
    case: str
    dtype: str
    hyperparameters: dict
    groups: list[dict]
    note: str
    init: Tree
    steps: list[Step]
    draws: Tree


@functools.cache
def read(name: str) -> tuple[dict, dict[str, Tree]]:
    """The header of a file and its arrays by case, which follow it as planes of bytes."""
    head, _, body = lzma.decompress((FOLDER / "originals" / f"{name}.xz").read_bytes()).partition(b"\n")
    header, arrays, at = json.loads(head), {}, 0
    for case, entry in header["cases"].items():
        for key, (dtype, shape) in entry["arrays"].items():
            width = np.dtype(dtype).itemsize
            planes = np.frombuffer(body, np.uint8, width * prod(shape), at).reshape(width, -1)
            arrays.setdefault(case, {})[key] = planes.T.copy().view(dtype).reshape(shape)
            at += planes.size
    return header, arrays


def cases(optimizer: str) -> list[str]:
    return list(read(optimizer)[0]["cases"])


def load(optimizer: str, case: str) -> Trace:
    shapes, stream = read("stream")[0]["leaves"], read("stream")[1]["stream"]
    header, arrays = read(optimizer)
    entry, recorded = header["cases"][case], arrays[case]
    leaves, dtype = entry["leaves"], entry["dtype"]

    def tree(row: np.ndarray, names: list[str]) -> Tree:
        ends = np.cumsum([prod(shapes[name]) for name in names])
        parts = zip(names, np.split(row, ends[:-1]), strict=True)
        return {name: part.reshape(shapes[name]).astype(dtype) for name, part in parts if name in leaves}

    steps: list[Step] = [{"grads": tree(grads, list(shapes))} for grads in stream["grads"]]
    for key, rows in recorded.items():
        if len(rows) == len(steps):
            by_leaf = rows.shape == recorded["params"].shape
            for step, row in zip(steps, rows, strict=True):
                step[key] = tree(row, leaves) if by_leaf else row
    return Trace(
        optimizer=optimizer,
        source=header["source"],
        case=case,
        dtype=dtype,
        hyperparameters=entry["hyperparameters"],
        groups=entry["groups"],
        note=entry["note"],
        init=tree(stream["init"], list(shapes)),
        steps=steps,
        draws={key: value for key, value in recorded.items() if value.shape != recorded["params"].shape},
    )


def replay_jax(
    trace: Trace,
    transform,
    extra: Callable[[Step], dict] = lambda step: {},
    seen: Callable[..., Step] = lambda state, params: {},
    tolerance: float | None = None,
) -> None:
    """Feed the stream to an optax transformation and compare the parameters after each step.

    `extra(step)` gives extra arguments of `update`; `seen(state, params)` whatever else was recorded, by its name.
    """
    import jax
    import jax.numpy as jnp
    import optax

    with jax.enable_x64(trace.dtype == "float64"):
        transform = optax.with_extra_args_support(transform)
        params = jax.tree.map(jnp.asarray, trace.init)
        state = transform.init(params)

        @jax.jit
        def advance(grads, state, params, extra):
            updates, state = transform.update(grads, state, params, **extra)
            return state, optax.apply_updates(params, updates)

        for t, step in enumerate(trace.steps):
            state, params = advance(jax.tree.map(jnp.asarray, step["grads"]), state, params, extra(step))
            _compare(trace, t, {"params": params, **seen(state, params)}, tolerance)


def replay_torch(
    trace: Trace,
    make: Callable,
    before: Callable[..., None] = lambda optimizer, params, step: None,
    seen: Callable[..., Step] = lambda optimizer, params: {},
    tolerance: float | None = None,
) -> None:
    """Feed the stream to the optimizer that `make` builds of (name, parameter) pairs; compare after each step.

    `before(optimizer, params, step)` runs before each step, for what an optimizer is given beside the gradients.
    """
    import torch

    torch.set_num_threads(1)
    params = {name: torch.tensor(value, requires_grad=True) for name, value in trace.init.items()}
    optimizer = make(list(params.items()))
    for t, step in enumerate(trace.steps):
        for name, param in params.items():
            param.grad = torch.tensor(step["grads"][name])
        before(optimizer, params, step)
        optimizer.step()
        values = {name: param.detach().numpy() for name, param in params.items()}
        _compare(trace, t, {"params": values, **seen(optimizer, params)}, tolerance)


def _compare(trace: Trace, t: int, got: Step, tolerance: float | None) -> None:
    for key, tree in got.items():
        close_trees(tree, trace.steps[t][key], trace.dtype, f"{trace.case} step {t + 1} {key}", tolerance)
