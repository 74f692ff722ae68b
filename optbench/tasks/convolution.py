"""Two ways to convolve a map with 3 x 3 weights in JAX: [n, h, w, in], [out, in, 3, 3] to [n, h / s, w / s, out]."""

from __future__ import annotations

from typing import Any


def unfolded(x: Any, weights: Any, stride: int) -> Any:
    """One matrix product: nine shifted copies of the map beside each other, times the weights (im2col)."""
    import jax.numpy as jnp

    height, width = x.shape[1:3]
    rimmed = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [rimmed[:, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)]
    columns = jnp.concatenate(shifted, axis=3)
    terms = columns.shape[3]
    product = columns.reshape(-1, terms) @ weights.transpose(2, 3, 1, 0).reshape(terms, -1)
    return product.reshape(*columns.shape[:3], -1)


def convolution(x: Any, weights: Any, stride: int) -> Any:
    """XLA's convolution, which must not be inside a compiled loop on CPU (jax-ml/jax#12868)."""
    import jax

    rim, layout = ((1, 1), (1, 1)), ("NHWC", "OIHW", "NHWC")
    return jax.lax.conv_general_dilated(x, weights, (stride, stride), rim, dimension_numbers=layout)
