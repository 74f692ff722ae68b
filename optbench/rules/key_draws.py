"""JAX's draws as tensors: PyTorch with the noise that JAX has, for comparing the two."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import torch

from optbench.rules.optax import KeyNoise

Shapes = tuple[tuple[str, tuple[int, ...], str], ...]
"""Names, shapes and dtypes."""


class TorchKeyNoise:
    """The draws of `KeyNoise`, made by JAX on the CPU. Slower than torch's own, and the same numbers in both."""

    def __init__(self, seed: int):
        self.seed = seed

    def normal(self, name: str, step: int, like: torch.Tensor) -> torch.Tensor:
        return self.drawn("normal", name, step, {name: like})[name]

    def normals(self, prefix: str, step: int, likes: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return self.drawn("normals", prefix, step, likes)

    def uniform(self, name: str, step: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return self.drawn("uniform", name, step, {name: torch.empty((), dtype=dtype)})[name]

    def drawn(
        self, kind: str, name: str, step: int, likes: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Draws like each tensor; float64 exists in JAX only inside the context."""
        shapes = tuple(
            (key, tuple(like.shape), str(like.dtype).removeprefix("torch.")) for key, like in likes.items()
        )
        wide = any(like.dtype == torch.float64 for like in likes.values())
        with jax.enable_x64(wide), jax.default_device(jax.devices("cpu")[0]):
            made = program(np.int32(self.seed), np.int32(step), kind=kind, name=name, shapes=shapes)
            return {key: torch.tensor(np.asarray(made[key])).to(like.device) for key, like in likes.items()}


@functools.partial(jax.jit, static_argnames=("kind", "name", "shapes"))
def program(seed: Any, step: Any, *, kind: str, name: str, shapes: Shapes) -> dict[str, jax.Array]:
    noise = KeyNoise.seeded(seed)
    likes = {key: jax.ShapeDtypeStruct(shape, dtype) for key, shape, dtype in shapes}
    if kind == "normals":
        return noise.normals(name, step, likes)
    ((key, like),) = likes.items()
    if kind == "uniform":
        return {key: noise.uniform(name, step, like.dtype)}
    return {key: noise.normal(name, step, like)}
