"""JAX as the groups of PSGD use it; `torch_arrays` has the same functions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as np
from jax.scipy.linalg import lu_factor, lu_solve, solve_triangular

from optbench.optimizers.kron.jax_factors import divide, gram, norm_lower_bound, precondition, times  # noqa: F401
from optbench.optimizers.leafwise.jax_arrays import branch, cast, each, eye  # noqa: F401


def common(leaves: Sequence[Any]) -> Any:
    """The dtype that holds all, at least float32."""
    return np.result_type(np.float32, *leaves)


def split(x: Any, sizes: list[int]) -> list[Any]:
    return np.split(x, list(itertools.accumulate(sizes))[:-1])


def permuted(x: Any, axes: Sequence[int]) -> Any:
    return x.transpose(axes)


def cleared(x: Any, i: int) -> Any:
    """x with a 0 in place i."""
    return x.at[i].set(0)


def ones(shape: Any, like: Any) -> Any:
    return np.ones(shape, like.dtype)


def empty(shape: Any, like: Any) -> Any:
    """A shape and dtype to draw for."""
    return jax.ShapeDtypeStruct(shape, like.dtype)


def inverse(q: Any) -> Any:
    return solve_triangular(q, eye(len(q), q))


def solver(a: Any) -> Callable[..., Any]:
    """x to a^-1 x, or a^-T x."""
    factored = lu_factor(a)
    return lambda x, transposed=False: lu_solve(factored, x, trans=int(transposed))


def chosen(condition: Any, x: Any, other: Any, like: Any) -> Any:
    """One of two numbers, in the dtype of an array."""
    return np.where(condition, x, other).astype(like.dtype)


def ratio_if(due: Any, ratio: Callable[[], Any]) -> Any:
    """The ratio where due; else 1, or None where that is known before it runs."""
    return np.where(due, ratio(), 1)


def repeated(step: Callable[[Any, Any], Any], x: Any, most: int, enough: Callable[[Any], Any]) -> Any:
    """step(x, i) for i = 0, 1, ..., once at least and at most so often, until it is enough."""
    going = lambda state: (state[1] < most) & ((state[1] == 0) | ~enough(state[0]))  # noqa: E731
    return jax.lax.while_loop(going, lambda state: (step(*state), state[1] + 1), (x, 0))[0]
