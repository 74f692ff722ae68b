"""A residual network on images: He et al.'s CIFAR network (arXiv:1512.03385) with group normalisation.

    h = relu(norm(conv(x)))
    h = relu(shortcut(h) + norm(conv(relu(norm(conv(h))))))    n blocks in each of 3 stages: depth 6 n + 2
    logits = W mean(h) + b

3 x 3 convolutions; the second and third stage halve the map and double the channels, and their shortcut takes every
other pixel and fills new channels with zeros, as in the paper. Groups (Wu and He, arXiv:1803.08494) take the place of
batch normalisation, under which the loss of a batch depends on more than the parameters and the batch's own rows: on
running averages, and, image by image, on its company. A Hessian-vector product or a lane's evaluation would then
differ with what else is computed.

Training images are moved by a few pixels, black coming in, and mirrored where a mirror image shows the same, as the seed
says. Weights start from He's normal distribution (arXiv:1502.01852), gains from 1, shifts and biases from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from optbench.core import Functions, Target, Task, UserError, hyper, stream
from optbench.tasks.data import batches, images

if TYPE_CHECKING:
    import numpy as np

UNFOLDED = 8
"""Maps up to this many pixels along a side are convolved as one matrix product in JAX (see `jax_convolution`)."""
EVALUATED = 10_000
"""Images of each part that are evaluated, at most: its first ones."""
CHUNK = 2_000
"""Images evaluated at a time; it bounds memory."""


class Layer(NamedTuple):
    """A convolution: its name, channels in and out, stride, and pixels along a side of the map it reads."""

    name: str
    inputs: int
    outputs: int
    stride: int
    size: int


@dataclass(frozen=True, kw_only=True)
class ResNet(Task):
    __doc__ = __doc__
    name: ClassVar[str] = "resnet"
    source: ClassVar[str] = "arXiv:1512.03385, arXiv:1803.08494; digits, or a local folder"
    selection: ClassVar[str] = "validation_loss"
    score: ClassVar[str] = "test_error"

    depth: int = hyper(8, "layers, 6 n + 2", bounds="[8, 1202]")
    width: int = hyper(16, "channels of the first stage", bounds="[1, 1024]")
    groups: int = hyper(4, "groups of channels that are normalised together; they divide width", bounds="[1, 1024]")
    batch: int = hyper(64, "images a step", bounds="[1, 4096]")
    augment: bool = hyper(True, "whether training images are moved and mirrored")
    dataset: str = hyper("digits", "where the images come from", choices=tuple(images.KINDS))

    @property
    def kind_of_images(self) -> images.Kind:
        return images.KINDS[self.dataset]

    @property
    def convolves(self) -> bool:
        """Maps that are too large to be unfolded are convolved by XLA."""
        return self.kind_of_images.size > UNFOLDED

    @property
    def horizon(self) -> int:
        return 400

    def layers(self) -> Iterator[tuple[Layer, Layer | None]]:
        """The stem alone, then the two convolutions of each block."""
        kind = self.kind_of_images
        yield Layer("stem", kind.channels, self.width, 1, kind.size), None
        channels, size = self.width, kind.size
        for stage in range(3):
            outputs = self.width * 2**stage
            for block in range((self.depth - 2) // 6):
                stride = 2 if stage and not block else 1
                name = f"stage{stage}_block{block}"
                first = Layer(f"{name}_conv0", channels, outputs, stride, size)
                size = -(-size // stride)
                yield first, Layer(f"{name}_conv1", outputs, outputs, 1, size)
                channels = outputs

    def init(self, seed: int) -> dict[str, np.ndarray]:
        import numpy as np
        rng = stream(seed, "init")
        params = {}
        for pair in self.layers():
            for layer in filter(None, pair):
                scale = np.sqrt(2 / (9 * layer.inputs))
                params[layer.name] = scale * rng.standard_normal((layer.outputs, layer.inputs, 3, 3))
                params[f"{layer.name}_gain"] = np.ones(layer.outputs)
                params[f"{layer.name}_shift"] = np.zeros(layer.outputs)
        c = 4 * self.width
        params["head"] = rng.standard_normal((10, c)) * np.sqrt(1 / c)
        params["head_shift"] = np.zeros(10)
        return params

    def data(self):
        import numpy as np
        a = dict(images.load(self.dataset))
        s = self.kind_of_images.shift if self.augment else 0
        a["train_x"] = np.pad(a["train_x"], ((0,0),(0,0),(s,s),(s,s)))
        x = images.load(self.dataset)["train_x"]
        a["mean"] = x.mean(axis=(0,2,3)); a["std"] = x.std(axis=(0,2,3))
        return a

    def draws(self, seed, start, stop):
        import numpy as np
        rows = batches.permutations(seed, start, stop, len(images.load(self.dataset)["train_y"]), self.batch)
        d = {"rows": rows}
        if self.augment:
            s = self.kind_of_images.shift
            d["corner"] = np.stack([stream(seed, f"augment/{t}").integers(2*s+1, size=(self.batch, 2)) for t in range(start, stop)]).astype(np.int32)
        return d

    def data_hash(self):
        return images.data_hash(self.dataset)

    def flops(self) -> float:
        each = 0
        for pair in self.layers():
            for l in filter(None, pair):
                out = -(-l.size // l.stride)
                each += 9*l.inputs*l.outputs*out*out
        return 6.0*each*self.batch

    def jax(self, unfold=None) -> Functions:
        import jax, jax.numpy as jnp
        UNF = UNFOLDED if unfold is None else unfold
        def unfolded(x, w, stride):
            B,H,W,C = x.shape
            p = jnp.pad(x, ((0,0),(1,1),(1,1),(0,0)))
            shifted = [p[:, i:i+H:stride, j:j+W:stride] for i in range(3) for j in range(3)]
            cols = jnp.concatenate(shifted, axis=-1)
            return (cols.reshape(-1, 9*C) @ w.transpose(2,3,1,0).reshape(9*C,-1)).reshape(*cols.shape[:3], -1)
        def conv(x, w, stride):
            if x.shape[1] <= UNF: return unfolded(x, w, stride)
            return jax.lax.conv_general_dilated(x, w, (stride, stride), ((1,1),(1,1)), dimension_numbers=("NHWC","OIHW","NHWC"))
        def norm(params, name, x):
            B,H,W,C = x.shape
            g = x.reshape(B, H*W, self.groups, C//self.groups)
            g = g - g.mean((1,3), keepdims=True)
            g = g * jax.lax.rsqrt((g*g).mean((1,3), keepdims=True) + 1e-5)
            return g.reshape(x.shape)*params[name+"_gain"]+params[name+"_shift"]
        def logits(params, x):
            for first, second in self.layers():
                y = norm(params, first.name, conv(x, params[first.name], first.stride))
                if second is None:
                    x = jax.nn.relu(y); continue
                y = norm(params, second.name, conv(jax.nn.relu(y), params[second.name], 1))
                short = x[:, ::first.stride, ::first.stride]
                short = jnp.pad(short, ((0,0),(0,0),(0,0),(0,first.outputs-first.inputs)))
                x = jax.nn.relu(short + y)
            return x.mean((1,2)) @ params["head"].T + params["head_shift"]
        def prep(x, data, dtype):
            return (x.astype(dtype) - data["mean"]) / data["std"]
        def cross_entropy(z, y):
            return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], axis=1)[:, 0])
        def loss(params, data, draw):
            size = self.kind_of_images.size
            if self.augment:
                x = jax.vmap(lambda r, c: jax.lax.dynamic_slice(data["train_x"], (r, 0, c[0], c[1]), (1, data["train_x"].shape[1], size, size))[0])(draw["rows"], draw["corner"])
            else:
                x = data["train_x"][draw["rows"]]
            x = prep(x.transpose(0,2,3,1), data, params["head"].dtype)
            return cross_entropy(logits(params, x), data["train_y"][draw["rows"]])
        def evaluate(params, data):
            found = {}
            s = self.kind_of_images.shift if self.augment else 0
            for part in images.PARTS:
                x = data[part+"_x"].transpose(0,2,3,1)
                if part == "train" and s: x = x[:, s:-s, s:-s]
                z, y = logits(params, prep(x, data, params["head"].dtype)), data[part+"_y"]
                found[f"{part}_loss"] = cross_entropy(z, y)
                found[f"{part}_error"] = jnp.mean(jnp.argmax(z, axis=1) != y, dtype=z.dtype)
            return found
        return Functions(loss, evaluate)
