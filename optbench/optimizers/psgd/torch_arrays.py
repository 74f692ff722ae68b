"""PyTorch as the groups of PSGD use it; `jax_arrays` has the same functions, and says what they do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from optbench.optimizers.kron.torch import divide, gram, norm_lower_bound, precondition, times  # noqa: F401
from optbench.optimizers.leafwise.torch_arrays import branch, cast, each, eye  # noqa: F401

np: Any = torch


def common(leaves: Sequence[Any]) -> Any:
    return functools.reduce(torch.promote_types, (leaf.dtype for leaf in leaves), torch.float32)


def split(x: Any, sizes: list[int]) -> Sequence[Any]:
    return x.split(sizes)


def permuted(x: Any, axes: Sequence[int]) -> Any:
    return x.permute(axes)


def cleared(x: Any, i: int) -> Any:
    x[i] = 0
    return x


def ones(shape: Any, like: Any) -> Any:
    return torch.ones(shape, dtype=like.dtype, device=like.device)


def empty(shape: Any, like: Any) -> Any:
    return like.new_empty(shape)


def inverse(q: Any) -> Any:
    return torch.linalg.solve_triangular(q, eye(len(q), q), upper=True)


def solver(a: Any) -> Callable[..., Any]:
    # lu_factor_ex does not look at the result's status, which would wait for the device.
    lu, pivots, _ = torch.linalg.lu_factor_ex(a)
    return lambda x, transposed=False: torch.linalg.lu_solve(lu, pivots, x[:, None], adjoint=transposed)[:, 0]


def chosen(condition: Any, x: Any, other: Any, like: Any) -> Any:
    tensors = [y if isinstance(y, torch.Tensor) else like.new_full((), y) for y in (x, other)]
    return torch.where(condition, *tensors)


def ratio_if(due: Any, ratio: Callable[[], Any]) -> Any:
    return ratio() if due else None


def repeated(step: Callable[[Any, Any], Any], x: Any, most: int, enough: Callable[[Any], Any]) -> Any:
    for i in range(most):
        x = step(x, i)
        if enough(x):
            break
    return x
