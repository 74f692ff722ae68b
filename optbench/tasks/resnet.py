"""A residual network on images: He et al.'s CIFAR network (arXiv:1512.03385) with group normalisation.

    h = relu(norm(conv(x)))
    h = relu(shortcut(h) + norm(conv(relu(norm(conv(h))))))     n blocks in each of 3 stages: depth 6 n + 2
    logits = W mean(h) + b,  loss = cross entropy

All convolutions are 3 x 3. The second and the third stage halve the map and double the channels; their shortcut
takes every other pixel and fills the new channels with zeros, as in the paper.

Groups of channels are normalised within each image (arXiv:1803.08494), where the paper normalises over the batch.
Batch statistics would make the loss of a batch depend on more than the parameters and the batch's rows: each image's
loss would depend on its company, and evaluation on running averages that are state beside the parameters. Gradients,
Hessian-vector products, line searches and averaged parameters would then not belong to one function.

Training images are moved by a pixel or a few (black comes in), and mirrored if a mirror image shows the same, which a
digit's does not; how is drawn from the seed. Weights start from He's normal distribution (arXiv:1502.01852), gains
from 1, shifts from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import UserError, hyper
from optbench.lazy import np
from optbench.task import Functions, Presets, Target, stream
from optbench.tasks.data import digits, images
from optbench.tasks.network import Network, Operations, joined, scores
from optbench.tasks.residual import Layer, jax_cut, jax_logits, torch_cut, torch_logits

UNFOLDED = 8
"""Images up to this many pixels along a side are convolved by matrix products in JAX.

XLA's own convolution is many times slower inside a compiled loop on CPU (jax-ml/jax#12868); a matrix product is not,
and for images as small as these it is faster than the convolution outside of one.
"""
PIECE = 600
"""Images that are evaluated at a time."""


@dataclass(frozen=True, kw_only=True)
class ResNet(Network):
    __doc__ = __doc__
    name: ClassVar[str] = "resnet"
    presets: ClassVar[Presets] = {
        "resnet_quick": {"width": 4, "batch": 16, "augment": False},
        "resnet_tiny": {"width": 8, "batch": 32},
        "resnet_14": {"depth": 14},
    }
    source: ClassVar[str] = "arXiv:1512.03385, arXiv:1803.08494; scikit-learn's digits, or a local folder"
    score: ClassVar[str] = "test_error"
    evaluations: ClassVar[int] = 10

    depth: int = hyper(8, "layers, 6 n + 2", bounds="[8, 1202]")
    width: int = hyper(16, "channels of the first stage", bounds="[1, 1024]")
    groups: int = hyper(4, "groups that the channels of a layer are normalised in", bounds="[1, 1024]")
    batch: int = hyper(64, "images a step", bounds="[1, 4096]")
    augment: bool = hyper(True, "whether training images are moved and mirrored", choices=(True, False))
    dataset: str = hyper("digits", "the images", choices=tuple(images.KINDS))

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.depth - 2) % 6:
            below = (self.depth - 2) // 6 * 6 + 2
            raise UserError(f"task resnet: depth={self.depth} is not 6 n + 2. Give {below} or {below + 6}.")
        if self.width % self.groups:
            raise UserError(
                f"task resnet: groups={self.groups} do not divide width={self.width}. "
                f"Give a width such as {-(-self.width // self.groups) * self.groups}, or groups=1."
            )

    @property
    def facts(self) -> images.Kind:
        """What is known of the images before they are read."""
        return images.KINDS[self.dataset]

    @property
    def convolves(self) -> bool:
        """Larger images are left to XLA's convolution."""
        return self.facts.size > UNFOLDED

    @property
    def horizon(self) -> int:
        """Some twenty epochs of the digits, fewer steps of images that stay where they are; three of a larger set."""
        return 2000 if self.dataset != "digits" else 400 if self.augment else 250

    def targets(self) -> tuple[Target, ...]:
        """A network that works, a good one, and one that few methods reach within the horizon."""
        digits = (0.10, 0.05, 0.02) if self.augment else (0.10, 0.07, 0.055)  # in fewer steps
        errors = {"digits": digits, "mnist": (0.03, 0.01, 0.006), "cifar10": (0.5, 0.3, 0.2)}
        return tuple(Target("validation_error", error) for error in errors[self.dataset])

    def layers(self) -> list[tuple[Layer, ...]]:
        """The first convolution, then the two of each block."""
        channels, size = self.width, self.facts.size
        made: list[tuple[Layer, ...]] = [(Layer("stem", self.facts.channels, channels, 1, size, size),)]
        for stage in range(3):
            for block in range((self.depth - 2) // 6):
                stride = 2 if stage and not block else 1
                outputs, half = self.width * 2**stage, -(-size // stride)
                name = f"stage{stage}_block{block}"
                first = Layer(f"{name}_first", channels, outputs, stride, size, half)
                made.append((first, Layer(f"{name}_second", outputs, outputs, 1, half, half)))
                channels, size = outputs, half
        return made

    def roles(self) -> dict[str, str]:
        return {"head": "head"}

    def init(self, seed: int) -> dict[str, Any]:
        """He-normal weights [out, in, 3, 3] and [out, in], gains of 1, shifts of 0."""
        rng, params = stream(seed, "init"), {}
        for layer in sum(self.layers(), ()):
            shape, scale = (layer.outputs, layer.inputs, 3, 3), np.sqrt(2 / (9 * layer.inputs))
            params[layer.name] = scale * rng.standard_normal(shape)
            params[f"{layer.name}_gain"] = np.ones(layer.outputs)
            params[f"{layer.name}_shift"] = np.zeros(layer.outputs)
        shape = (digits.CLASSES, 4 * self.width)
        params["head"] = rng.standard_normal(shape) * np.sqrt(1 / shape[1])
        params["head_shift"] = np.zeros(shape[0])
        return params

    def data(self) -> dict[str, Any]:
        """Training images with a rim as wide as they may move, and what is evaluated of each part."""
        arrays, rim = images.load(self.dataset), (self.rim, self.rim)
        pixels = arrays["train_x"]
        few = len(arrays["validation_y"])
        return arrays | {
            "rimmed": np.pad(pixels, ((0, 0), (0, 0), rim, rim)),
            "labels": arrays["train_y"],
            "train_x": pixels[:few],
            "train_y": arrays["train_y"][:few],
            "mean": pixels.mean(axis=(0, 2, 3))[:, None, None],
            "deviation": pixels.std(axis=(0, 2, 3))[:, None, None],
        }

    @property
    def rim(self) -> int:
        return self.facts.shift if self.augment else 0

    def draws(self, seed: int, start: int, stop: int) -> dict[str, Any]:
        """The rows of each batch, the corner at which each image is cut out, and whether it is mirrored."""
        drawn = super().draws(seed, start, stop)
        if self.augment:
            rngs = [stream(seed, f"augmentation/{t}") for t in range(start, stop)]
            corners = [rng.integers(2 * self.rim + 1, size=(self.batch, 2)) for rng in rngs]
            mirrored = [rng.integers(1 + self.facts.flips, size=self.batch) for rng in rngs]
            drawn["corner"] = np.stack(corners).astype(np.int32)
            drawn["mirrored"] = np.stack(mirrored).astype(np.uint8)
        return drawn

    def rows(self) -> int:
        return len(images.load(self.dataset)["train_y"])

    def data_hash(self) -> str:
        if self.batch > self.rows():
            raise UserError(
                f"task resnet: batch={self.batch} is more than the {self.rows()} training images. Give fewer."
            )
        return images.data_hash(self.dataset)

    def notes(self) -> list[str]:
        return images.notes(self.dataset)

    def functions(self, ops: Operations) -> Functions:
        layers, groups, size = self.layers(), self.groups, self.facts.size
        cut = jax_cut if ops.jax else torch_cut

        def logits(params, data, x, convolve):
            x = (ops.cast(x, data["mean"].dtype) - data["mean"]) / data["deviation"]
            if ops.jax:
                return jax_logits(layers, groups, params, x, convolve)
            return torch_logits(layers, groups, params, x)

        def loss(params, data, draw):
            rows = draw["rows"]
            x = cut(data["rimmed"], draw, size) if self.augment else data["rimmed"][rows]
            return ops.mean_cross_entropy(logits(params, data, x, self.convolves), data["labels"][rows])

        def evaluate(params, data):
            # In a loop: never by XLA's convolution.
            z = ops.in_pieces(lambda x: logits(params, data, x, False), joined(ops, data, "x"), PIECE)
            return scores(ops, z, data)

        return Functions(loss, evaluate)

    def working_floats(self) -> int:
        """Of each convolution: its input (nine times where it is unfolded), output, and two steps of the norm."""
        copies = 1 if self.convolves else 9
        floats = [copies * e.inputs * e.made**2 + 4 * e.outputs * e.made**2 for e in sum(self.layers(), ())]
        return self.batch * sum(floats)

    def flops(self) -> float:
        return 6.0 * self.batch * sum(9 * e.inputs * e.outputs * e.made**2 for e in sum(self.layers(), ()))
