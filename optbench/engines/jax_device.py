"""The device that JAX runs on: which, in what numbers, how fast its matrix products are, how much memory it held."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench import environment
from optbench.cell import Cell

MATMULS = {
    "gpu": {"float32": "highest", "tensorfloat32": "high", "bfloat16": "BF16_BF16_F32"},
    "tpu": {"float32": "highest", "tensorfloat32": "high", "bfloat16": "default"},
}
"""What JAX calls the precisions of matrix products on each platform; left to itself it takes the least."""


@contextlib.contextmanager
def numbers(cell: Cell, device: str) -> Iterator[None]:
    """The cell's dtype and, on an accelerator, its precision; on a CPU there is one precision only."""
    with jax.enable_x64(cell.dtype == "float64"):
        if device == "cpu":
            yield
        else:
            with jax.default_matmul_precision(MATMULS[device][cell.precision]):
                yield


def placed(tree: Any, dtype: str, device: Any = None) -> Any:
    """On the device, with floating-point numbers in a dtype."""

    def one(array: np.ndarray) -> jax.Array:
        is_float = np.issubdtype(array.dtype, np.floating)
        return jax.device_put(array.astype(dtype) if is_float else array, device)

    return jax.tree.map(one, tree)


def product(n: int, dtype: str) -> Callable[[], Any]:
    """A function that multiplies two n x n matrices and waits for the result."""
    square, multiply = jnp.ones((n, n), dtype), jax.jit(jnp.matmul)
    return lambda: multiply(square, square).block_until_ready()


def devices(platform: str) -> list[Any]:
    """The devices of a platform."""
    return jax.devices(platform)


def device_facts(device: str) -> dict[str, Any]:
    """What kind of device programs run on."""
    found = devices(device)[0]
    return {
        "device": str(found),
        "device_kind": found.device_kind,
        "platform_version": found.client.platform_version,
    }


def watch_memory(device: str) -> Callable[[], int | None]:
    """A function that gives the most bytes that the device held since now; None where that is not known."""
    if device == "cpu":
        return environment.watch_memory()
    before = held(device)

    def since() -> int | None:
        # The mark is the process's and cannot be set back: unless it rose, an earlier program needed more.
        now = held(device)
        return None if now is None or now == before else now

    return since


def held(device: str) -> int | None:
    """The most bytes that were ever allocated on the device, where its client counts them."""
    return (devices(device)[0].memory_stats() or {}).get("peak_bytes_in_use")
