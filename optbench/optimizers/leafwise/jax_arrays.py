"""JAX as methods written once use it; `torch_arrays` has the same functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import jax
import jax.numpy as np

from optbench.rules.optax_transform import one_minus_power, wide

zeros, where, at_most, at_least = np.zeros_like, np.where, np.minimum, np.maximum
eigh = np.linalg.eigh
"""Eigenvalues, rising, and eigenvectors as columns."""
branch = jax.lax.cond
"""One of two computations, and only that."""


def ema(mean: Any, x: Any, decay: Any) -> Any:
    """decay mean + (1 - decay) x, in the dtype of the mean."""
    return (decay * mean + (1 - decay) * x).astype(mean.dtype)


def cast(x: Any, dtype: Any) -> Any:
    return x.astype(dtype)


def unbias(decay: Any, t: Any) -> Any:
    """1 - decay^t."""
    return one_minus_power(decay, t, np.result_type(float))


def number(t: Any) -> Any:
    """The number of a step, to compute with."""
    return np.asarray(t, np.result_type(float))


def log(x: Any) -> Any:
    """Of a hyperparameter, which may be traced; exact where it is not."""
    return math.log(x) if isinstance(x, Real) else np.log(x)


def full(shape: Any, value: float, like: Any) -> Any:
    return np.full(shape, value, like.dtype)


def eye(n: int, like: Any) -> Any:
    return np.eye(n, dtype=like.dtype)


def copy(x: Any) -> Any:
    return x


def mixed(a: float, x: Any, b: float, y: Any, z: Any) -> Any:
    """a x + b y z, of matrices or stacks of them."""
    return a * x + b * (y @ z)


def norm(x: Any) -> Any:
    """The Euclidean norm of all entries, in float32 at least."""
    x = x.astype(wide(x.dtype))
    return np.sqrt((x * x).sum())


def total(x: Any) -> Any:
    """The sum of all entries, in float32 at least."""
    return x.astype(wide(x.dtype)).sum()


def largest(x: Any, axes: tuple[int, ...]) -> Any:
    """The maximum over axes, which stay with length 1."""
    return x.max(axes, keepdims=True)


def mean(x: Any, axes: tuple[int, ...]) -> Any:
    """The mean over axes, which stay with length 1."""
    return x.mean(axes, keepdims=True) if axes else x


def inverse_root(x: Any) -> Any:
    """x^(-1/2), and 0 where x is 0."""
    return np.where(x == 0, 0, 1 / np.sqrt(np.where(x == 0, 1, x)))


def each(function: Callable[..., Any], rows: list[tuple[Any, ...]]) -> list[Any]:
    """`function(*row)` of each row. Rows of like arrays are one stack: a compilation of their own costs more each."""
    made, stacks = [None] * len(rows), {}
    for i, row in enumerate(rows):
        leaves, structure = jax.tree.flatten(row)
        stacks.setdefault((structure, *((x.shape, x.dtype) for x in leaves)), []).append(i)
    for places in stacks.values():
        if len(places) == 1:
            made[places[0]] = function(*rows[places[0]])
            continue
        stack = jax.tree.map(lambda *xs: np.stack(xs), *(rows[i] for i in places))
        done = jax.vmap(function)(*stack)
        for k, i in enumerate(places):
            made[i] = jax.tree.map(lambda x, k=k: x[k], done)
    return made
