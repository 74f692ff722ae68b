"""Two ways to convolve a map with 3 x 3 weights [out, in, 3, 3] in JAX, each in the layout that it is fastest in."""

from __future__ import annotations

from typing import Any


def unfolded(x: Any, weights: Any, stride: int) -> Any:
    """[in, h, w, n] to [out, h / stride, w / stride, n], as one matrix product (im2col).

    The weights times nine shifted copies of the map on top of each other.
    """
    import jax.numpy as jnp

    height, width = x.shape[1:3]
    rimmed = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Shifted down, then along: six copies to compile in place of nine, and as fast.
    down = jnp.concatenate([rimmed[:, i : i + height : stride] for i in range(3)])
    columns = jnp.concatenate([down[:, :, j : j + width : stride] for j in range(3)])
    product = weights.transpose(0, 3, 2, 1).reshape(len(weights), -1) @ columns.reshape(len(columns), -1)
    return product.reshape(len(weights), *columns.shape[1:])


def convolution(x: Any, weights: Any, stride: int) -> Any:
    """[n, h, w, in] to [n, h / stride, w / stride, out], by XLA; not to be inside a compiled loop on CPU."""
    import jax

    rim, layout = ((1, 1), (1, 1)), ("NHWC", "OIHW", "NHWC")
    return jax.lax.conv_general_dilated(x, weights, (stride, stride), rim, dimension_numbers=layout)
