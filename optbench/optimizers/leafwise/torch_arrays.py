"""PyTorch as methods written once use it; `jax_arrays` has the same functions, and says what they do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from optbench.rules.torch_optimizer import wide

np: Any = torch
log, zeros = math.log, torch.zeros_like


def ema(mean: Any, x: Any, decay: Any) -> Any:
    return mean.lerp(x, 1 - decay)


def cast(x: Any, dtype: Any) -> Any:
    return x.to(dtype)


def unbias(decay: Any, t: Any) -> Any:
    return 1 - decay**t


def number(t: Any) -> Any:
    return t


def full(shape: Any, value: float, like: Any) -> Any:
    return torch.full(shape, value, dtype=like.dtype, device=like.device)


def eye(n: int, like: Any) -> Any:
    return torch.eye(n, dtype=like.dtype, device=like.device)


def copy(x: Any) -> Any:
    return x.detach().clone()


def mixed(a: float, x: Any, b: float, y: Any, z: Any) -> Any:
    add = torch.addmm if x.ndim == 2 else torch.baddbmm
    return add(x, y, z, beta=a, alpha=b)


def norm(x: Any) -> Any:
    return torch.linalg.vector_norm(x, dtype=wide(x.dtype))


def total(x: Any) -> Any:
    return x.sum(dtype=wide(x.dtype))


def at_most(x: Any, bound: Any) -> Any:
    return x.clamp(max=bound) if isinstance(x, torch.Tensor) else min(x, bound)


def at_least(x: Any, bound: Any) -> Any:
    return x.clamp(min=bound) if isinstance(x, torch.Tensor) else max(x, bound)


def largest(x: Any, axes: tuple[int, ...]) -> Any:
    return x.amax(axes, keepdim=True) if axes else x


def mean(x: Any, axes: tuple[int, ...]) -> Any:
    return x.mean(axes, keepdim=True) if axes else x


def where(condition: Any, x: Any, other: Any) -> Any:
    if isinstance(condition, torch.Tensor):
        return torch.where(condition, x, other)
    return x if condition else other


def inverse_root(x: Any) -> Any:
    return torch.where(x == 0, 0, x.rsqrt())


def eigh(x: Any) -> tuple[Any, Any]:
    # What is no number comes out as such, as in JAX; torch raises an error.
    finite, none = x.isfinite().all(), x.new_full((), float("nan"))
    values, vectors = torch.linalg.eigh(torch.where(finite, x, 0))
    return torch.where(finite, values, none), torch.where(finite, vectors, none)


def branch(chosen: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    return yes() if chosen else no()


def each(function: Callable[..., Any], rows: list[tuple[Any, ...]]) -> list[Any]:
    return [function(*row) for row in rows]
