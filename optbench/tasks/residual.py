"""The residual network itself, in both frameworks, and two ways to convolve a map with 3 x 3 weights in JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from optbench.task import Arrays

EPSILON = 1e-5
"""Added to the variances that are divided by, as in PyTorch."""


class Layer(NamedTuple):
    """A convolution: its name, channels in and out, stride, and pixels along a side of what it reads and writes."""

    name: str
    inputs: int
    outputs: int
    stride: int
    size: int
    made: int


def jax_logits(
    layers: Sequence[tuple[Layer, ...]], groups: int, params: Arrays, x: Any, convolve: bool
) -> Any:
    """Images [n, channels, size, size] to logits [n, classes].

    XLA's convolution is fastest on [n, h, w, c]. Unfolded, a network is fastest on [c, h, w, n], where all that is not
    a matrix product runs along the batch.
    """
    import jax
    import jax.numpy as jnp

    axis = 3 if convolve else 0

    def along_channels(values):
        return values[(None,) * axis + (slice(None),) + (None,) * (3 - axis)]

    def by_group(y):
        if convolve:
            means = y.mean((1, 2)).reshape(len(y), groups, -1).mean(2)
        else:
            means = y.reshape(groups, -1, y.shape[3]).mean(1)
        return jnp.expand_dims(jnp.repeat(means, y.shape[axis] // groups, axis=int(convolve)), (1, 2))

    def layer(at: Layer, x):
        y = (convolution if convolve else unfolded)(x, params[at.name], at.stride)
        y = y - by_group(y)
        y = y * jax.lax.rsqrt(by_group(y * y) + EPSILON)
        return y * along_channels(params[f"{at.name}_gain"]) + along_channels(params[f"{at.name}_shift"])

    (stem,), *blocks = layers
    x = jax.nn.relu(layer(stem, x.transpose((0, 2, 3, 1) if convolve else (1, 2, 3, 0))))
    for first, second in blocks:
        y = layer(second, jax.nn.relu(layer(first, x)))
        new = [(0, first.outputs - first.inputs if i == axis else 0) for i in range(4)]
        x = jax.nn.relu(jnp.pad(x[:, :: first.stride, :: first.stride], new) + y)
    pooled = x.mean((1, 2))
    return (pooled if convolve else pooled.T) @ params["head"].T + params["head_shift"]


def torch_logits(layers: Sequence[tuple[Layer, ...]], groups: int, params: Arrays, x: Any) -> Any:
    """Images [n, channels, size, size] to logits [n, classes]."""
    from torch.nn.functional import conv2d, group_norm, linear, pad, relu

    def layer(at: Layer, x):
        y = conv2d(x, params[at.name], stride=at.stride, padding=1)
        return group_norm(y, groups, params[f"{at.name}_gain"], params[f"{at.name}_shift"], EPSILON)

    (stem,), *blocks = layers
    x = relu(layer(stem, x))
    for first, second in blocks:
        y = layer(second, relu(layer(first, x)))
        new = (0, 0, 0, 0, 0, first.outputs - first.inputs)
        x = relu(pad(x[:, :, :: first.stride, :: first.stride], new) + y)
    return linear(x.mean((2, 3)), params["head"], params["head_shift"])


def jax_cut(images: Any, draw: Arrays, size: int) -> Any:
    """From images with a rim: those of a batch, each cut out at its corner, and mirrored if drawn so."""
    import jax
    import jax.numpy as jnp

    def one(row, corner):
        start = (row, jnp.zeros_like(row), corner[0], corner[1])
        return jax.lax.dynamic_slice(images, start, (1, images.shape[1], size, size))[0]

    x = jax.vmap(one)(draw["rows"], draw["corner"])
    return jnp.where(draw["mirrored"][:, None, None, None] == 1, x[..., ::-1], x)


def torch_cut(images: Any, draw: Arrays, size: int) -> Any:
    import torch

    channels = torch.arange(images.shape[1], device=images.device)
    across = torch.arange(size, device=images.device)
    down = across + draw["corner"][:, :1]
    along = torch.where(draw["mirrored"][:, None] == 1, across.flip(0), across) + draw["corner"][:, 1:]
    rows = draw["rows"][:, None, None, None]
    return images[rows, channels[:, None, None], down[:, None, :, None], along[:, None, None, :]]


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
