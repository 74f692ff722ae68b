"""JAX's draws as tensors: PyTorch with the noise that JAX has, for comparing the two."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import torch

from optbench.rules.optax import KeyNoise

if TYPE_CHECKING:
    import numpy as np


class TorchKeyNoise:
    """The draws of `KeyNoise`, made by JAX on the CPU. Slower than torch's own, and the same numbers in both."""

    def __init__(self, seed: int):
        self.seed = seed

    def normal(self, name: str, step: int, like: torch.Tensor) -> torch.Tensor:
        """Standard normal draws, of the shape, dtype and device of `like`."""
        dtype = str(like.dtype).removeprefix("torch.")
        return torch.tensor(self.drawn("normal", name, tuple(like.shape), dtype, step)).to(like.device)

    def uniform(self, name: str, step: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """One draw from [0, 1), a 0-d CPU tensor."""
        return torch.tensor(self.drawn("uniform", name, (), str(dtype).removeprefix("torch."), step))

    def drawn(self, kind: str, name: str, shape: tuple[int, ...], dtype: str, step: int) -> np.ndarray:
        """The draw as a NumPy array; float64 exists in JAX only inside the context."""
        import numpy as np

        with jax.enable_x64(dtype == "float64"), jax.default_device(jax.devices("cpu")[0]):
            return np.asarray(program(kind, name, shape, dtype)(np.int32(self.seed), np.int32(step)))


@functools.cache
def program(kind: str, name: str, shape: tuple[int, ...], dtype: str) -> Callable[[Any, Any], jax.Array]:
    """One kind of draw, compiled once."""

    @jax.jit
    def draw(seed: Any, step: Any) -> jax.Array:
        noise = KeyNoise.seeded(seed)
        if kind == "uniform":
            return noise.uniform(name, step, dtype)
        return noise.normal(name, step, jax.ShapeDtypeStruct(shape, dtype))

    return draw
