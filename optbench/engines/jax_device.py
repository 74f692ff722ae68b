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
"""JAX's names for the precisions of matrix products on each platform; by default it takes the lowest."""


@contextlib.contextmanager
def entered(cell: Cell, platform: str) -> Iterator[Any]:
    """The first device of a platform, as the default, in the cell's dtype and precision (a CPU has one only)."""
    device = devices(platform)[0]
    precision = None if platform == "cpu" else MATMULS[platform][cell.precision]
    with (
        jax.enable_x64(cell.dtype == "float64"),
        contextlib.nullcontext() if precision is None else jax.default_matmul_precision(precision),
        jax.default_device(device),
    ):
        yield device


def placed(tree: Any, dtype: str, device: Any = None) -> Any:
    """On the device, with floating-point numbers in a dtype."""

    def one(array: np.ndarray) -> jax.Array:
        is_float = np.issubdtype(array.dtype, np.floating)
        return jax.device_put(array.astype(dtype) if is_float else array, device)

    return jax.tree.map(one, tree)


def fetched(tree: Any) -> Any:
    """On the host. `jax.device_get` takes ten times as long for an array of a few numbers, as lanes have many."""
    for array in jax.tree.leaves(tree):
        array.copy_to_host_async()  # all begin to cross before the first is waited for
    return jax.tree.map(np.asarray, tree)


def product(n: int, dtype: str, device: Any = None) -> Callable[[], Any]:
    square, multiply = jnp.ones((n, n), dtype, device=device), jax.jit(jnp.matmul)
    return lambda: multiply(square, square).block_until_ready()


def devices(platform: str) -> list[Any]:
    return jax.devices(platform)


def device_facts(platform: str) -> dict[str, Any]:
    """What kind of device programs run on."""
    device = devices(platform)[0]
    return {
        "device": str(device),
        "device_kind": device.device_kind,
        "platform_version": device.client.platform_version,
    }


def watch_memory(platform: str) -> Callable[[], int | None]:
    """A function that gives the most bytes that the device held since now; None where that is not known."""
    if platform == "cpu":
        return environment.watch_memory()

    def held() -> int | None:
        """The most bytes that were ever allocated on the device, where its client counts them."""
        return (devices(platform)[0].memory_stats() or {}).get("peak_bytes_in_use")

    before = held()

    def since() -> int | None:
        # The mark is the process's and cannot be set back: unless it rose, an earlier program needed more.
        now = held()
        return None if now == before else now

    return since
