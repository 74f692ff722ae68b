"""JAX = PyTorch: both go the same way, with the same draws, as long as rounding lets them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from optbench.conformance import assume
from optbench.conformance.jax import Subject, total
from optbench.conformance.problem import Shapes, batches, first, signs, worded
from optbench.conformance.torch import Subject as TorchSubject
from optbench.rules.key_draws import TorchKeyNoise

SHAPES: Shapes = {"b": (3,), "s": (), "w": (4, 3)}
STEPS = 40
TWINS = 3


def check_twins(subject: Subject) -> str:
    """The frameworks may be ten times as far apart as paths in JAX that are moved by 1 +- 2^-52 after each step."""
    assume(subject.optimizer.parity, "It says itself that its two versions differ, and why.")
    with jax.enable_x64(True):
        rule = subject.rule()
        rows, start = jax.tree.map(jnp.asarray, (batches(SHAPES), first(SHAPES)))
        moves = {
            k: jnp.asarray([[signs(k, t + STEPS * i, s) for t in range(STEPS)] for i in range(TWINS)])
            for k, s in SHAPES.items()
        }
        sizes = {k: jnp.concatenate([0 * m[:1], m * 2.0**-52]) for k, m in moves.items()}

        def body(carry: Any, inputs: Any) -> Any:
            (params, state), (t, size) = carry, inputs
            done = rule.step(params, state, total(rows, t), t)
            params = {name: p * (1 + size[name]) for name, p in done.params.items()}
            return (params, done.state), params

        @jax.jit
        def path(size: Any) -> Any:
            return jax.lax.scan(body, (start, rule.init(start)), (jnp.arange(STEPS), size))[1]

        found = [path({k: v[i] for k, v in sizes.items()}) for i in range(TWINS + 1)]
        plain, *twins = jax.tree.map(np.asarray, found)
        other = torch_path(subject)
    growth = np.maximum.accumulate(np.max([distance(plain, twin) for twin in twins], axis=0))
    gaps = distance(plain, other)
    bounds = 10 * np.maximum(growth, 1e-15)
    late = np.flatnonzero(gaps > bounds)
    assert not len(late), (
        f"On {worded(SHAPES)} JAX and PyTorch are {gaps[late[0]]:.1e} apart after step {late[0] + 1}, where "
        f"rounding carries a path {growth[late[0]]:.1e}."
    )
    together, carried = gaps.max(), growth.max()
    return f"JAX and PyTorch are {together:.0e} apart after {STEPS} steps; rounding carries a path {carried:.0e}."


def torch_path(subject: Subject) -> dict[str, np.ndarray]:
    run, walked = TorchSubject(subject.optimizer).run(SHAPES, torch.float64, noise=TorchKeyNoise(0)), []
    for t in range(STEPS):
        run = run.go(1, t)
        walked.append(run.numbers())
    return {name: np.stack([each[name] for each in walked]) for name in SHAPES}


def distance(one: Any, other: Any) -> np.ndarray:
    """How far apart two paths are after each step, relative to the largest entry."""
    scale = max(float(np.abs(value).max()) for value in one.values())
    gaps = [np.abs(one[name] - other[name]).reshape(STEPS, -1).max(1) for name in one]
    return np.nan_to_num(np.max(gaps, axis=0), nan=np.inf) / scale
