"""Heavy-tailed classes: softmax regression where the k-th class has a share in proportion to 1 / k.

    x = s m_y + e,  P(y = k) = 1 / (k H),  e ~ N(0, I),  m_k ~ N(0, I / dim),   z = W x + b,  loss = cross entropy

Most classes are rare, and together they are much of the loss; on such data gradient descent has been seen to learn the
common classes first, and Adam all at a like pace (arXiv:2402.19449). The problem is convex. Class means and samples
are fixed, 4,096 for training and 1,024 each for validation and test; W and b start from 0; a seed draws the batches.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import hyper
from optbench.lazy import np
from optbench.task import Arrays, Target, stream
from optbench.tasks.network import PARTS, Classifier, Operations

SAMPLES = {"train": 4096, "validation": 1024, "test": 1024}


@dataclass(frozen=True, kw_only=True)
class Zipf(Classifier):
    __doc__ = __doc__
    source: ClassVar[str] = "synthetic, after arXiv:2402.19449"
    score: ClassVar[str] = "test_loss"
    toy: ClassVar[bool] = True
    evaluations: ClassVar[int] = 10
    horizon: ClassVar[int] = 500
    """Some eight epochs."""
    x: ClassVar[str] = "inputs"
    y: ClassVar[str] = "labels"

    classes: int = hyper(128, "classes", bounds="[2, 65536]")
    dim: int = hyper(32, "inputs", bounds="[1, 4096]")
    signal: float = hyper(3.0, "s, the distance of class means in standard deviations", bounds="(0, inf)")
    batch: int = hyper(64, "samples a step", bounds="[1, 4096]")

    def targets(self) -> tuple[Target, ...]:
        """Better than the shares of the classes, a good model, and one that few methods reach within the horizon."""
        return tuple(Target("validation_loss", value) for value in (2.5, 1.8, 1.45))

    def roles(self) -> dict[str, str]:
        return {"w": "head"}

    def init(self, seed: int) -> dict[str, Any]:
        """Zero weights [classes, dim] and shifts."""
        return {"w": np.zeros((self.classes, self.dim)), "b": np.zeros(self.classes)}

    def data(self) -> dict[str, Any]:
        return samples(self.classes, self.dim, self.signal)

    def rows(self) -> int:
        return SAMPLES["train"]

    def logits(self, ops: Operations, params: Arrays, x: Any) -> Any:
        return ops.linear(x, params["w"], params["b"])

    def working_floats(self) -> int:
        return self.batch * (self.dim + 2 * self.classes)

    def flops(self) -> float:
        return 6.0 * self.batch * self.dim * self.classes


@functools.lru_cache(maxsize=8)
def samples(classes: int, dim: int, signal: float) -> dict[str, Any]:
    """Inputs [n, dim] and labels [n] to train on, and of each part what is evaluated."""
    shares = 1 / np.arange(1, classes + 1)
    means = signal * stream(0, "means").standard_normal((classes, dim)) / np.sqrt(dim)
    arrays: dict[str, Any] = {}
    for number, part in enumerate(PARTS):
        rng = stream(number, "samples")
        labels = rng.choice(classes, SAMPLES[part], p=shares / shares.sum())
        arrays[f"{part}_x"] = means[labels] + rng.standard_normal((SAMPLES[part], dim))
        arrays[f"{part}_y"] = labels.astype(np.int32)
    few, drawn = slice(SAMPLES["validation"]), (arrays["train_x"], arrays["train_y"])
    evaluated = {"train_x": drawn[0][few], "train_y": drawn[1][few]}
    return arrays | evaluated | {"inputs": drawn[0], "labels": drawn[1]}
