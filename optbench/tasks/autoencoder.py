"""A deep autoencoder of real handwritten digits: the classic test of second-order methods.

    64 - width - width/2 - .. - code - .. - width/2 - width - 64
    h <- 1 / (1 + exp(-(W h + b)))        at the code h <- W h + b

After Hinton and Salakhutdinov (Science 2006) and Martens (ICML 2010), on digits of 8 x 8 pixels: logistic units, a
linear code, and the cross entropy of the pixels in nats per image. Each unit starts with at most 15 incoming weights
from N(0, 1) and the others 0, Martens' sparse start, under which plain gradient descent takes long.

Evaluated by the mean squared error of a pixel (white is 1). On the validation part the training part's mean image has
0.0737 and its first 8 principal components have 0.0245, which is the second target.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import UserError, hyper
from optbench.lazy import np
from optbench.task import Functions, Target, stream
from optbench.tasks.data import digits
from optbench.tasks.network import PARTS, DigitsNetwork, Operations, joined, means_by_part

INCOMING = 15
"""Weights of a unit that do not start from 0, at most."""


@dataclass(frozen=True, kw_only=True)
class Autoencoder(DigitsNetwork):
    __doc__ = __doc__
    source: ClassVar[str] = (
        "doi:10.1126/science.1127647; Martens, ICML 2010; digits of UCI 1998 (scikit-learn)"
    )
    score: ClassVar[str] = "test_mse"
    horizon: ClassVar[int] = 1000
    """About a hundred epochs."""

    width: int = hyper(128, "units of the first and the last hidden layer", bounds="[1, 16384]")
    layers: int = hyper(3, "hidden layers before the code, each half of the one before", bounds="[1, 12]")
    code: int = hyper(8, "numbers that an image is squeezed through", bounds="[1, 64]")
    batch: int = hyper(128, "images a step", bounds="[1, 1000]")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 2 ** (self.layers - 1):
            raise UserError(
                f"task autoencoder: width={self.width} cannot be halved {self.layers - 1} times. "
                f"Give a width that {2 ** (self.layers - 1)} divides, or fewer layers."
            )

    def targets(self) -> tuple[Target, ...]:
        """Better than the mean image, than principal components, and than most."""
        return tuple(Target("validation_mse", value) for value in (0.06, 0.0245, 0.0145))

    @property
    def sizes(self) -> list[int]:
        """Units of each layer, input and output included."""
        half = [digits.PIXELS, *[self.width // 2**i for i in range(self.layers)]]
        return [*half, self.code, *half[::-1]]

    def roles(self) -> dict[str, str]:
        return {f"w{len(self.sizes) - 2}": "head"}

    def init(self, seed: int) -> dict[str, Any]:
        """Sparse weights [out, in], zero biases."""
        rng, params = stream(seed, "init"), {}
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(self.sizes)):
            weights = rng.standard_normal((fan_out, fan_in))
            rank = rng.random((fan_out, fan_in)).argsort(axis=1)
            params[f"w{i}"] = np.where(rank < INCOMING, weights, 0.0)
            params[f"b{i}"] = np.zeros(fan_out)
        return params

    def functions(self, ops: Operations) -> Functions:
        last = len(self.sizes) - 2

        def logits(params, x):
            for i in range(last):
                x = ops.linear(x, params[f"w{i}"], params[f"b{i}"])
                x = x if i == self.layers else ops.nn.sigmoid(x)
            return ops.linear(x, params[f"w{last}"], params[f"b{last}"])

        def cross_entropy(z, x):
            return (ops.nn.softplus(z) - x * z).sum(1)

        def loss(params, data, draw):
            x = data["train_x"][draw["rows"]]
            return cross_entropy(logits(params, x), x).mean()

        def evaluate(params, data):
            x = joined(ops, data, "x")
            z = logits(params, x)
            rows = {"loss": cross_entropy(z, x), "mse": (ops.nn.sigmoid(z) - x) ** 2}
            return means_by_part(rows, [len(data[f"{part}_x"]) for part in PARTS])

        return Functions(loss, evaluate)

    def working_floats(self) -> int:
        """Units before and after their nonlinearity."""
        return self.batch * 2 * sum(self.sizes)

    def flops(self) -> float:
        return 6.0 * self.batch * sum(a * b for a, b in itertools.pairwise(self.sizes))
