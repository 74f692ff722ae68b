"""A multilayer perceptron on real handwritten digits: 64-128-128-10, ReLU, cross entropy.

    h <- max(W h + b, 0) in each hidden layer,  logits = W h + b,  loss = cross entropy

Weights start from He's normal distribution (arXiv:1502.01852), biases from 0. A fixed stratified split gives
1,078 images to train on, 360 to choose by (validation) and 359 to report on (test).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import hyper
from optbench.lazy import np
from optbench.task import Arrays, Target, stream
from optbench.tasks.data import digits
from optbench.tasks.network import Classifier, DigitsNetwork, Operations


@dataclass(frozen=True, kw_only=True)
class MLP(DigitsNetwork, Classifier):
    __doc__ = __doc__
    source: ClassVar[str] = digits.SOURCE
    score: ClassVar[str] = "test_error"
    evaluations: ClassVar[int] = 20
    horizon: ClassVar[int] = 250
    """Some twenty-five epochs."""

    width: int = hyper(128, "units of each hidden layer", bounds="[1, 16384]")
    layers: int = hyper(2, "hidden layers", bounds="[0, 32]")
    batch: int = hyper(128, "images a step", bounds="[1, 1000]")

    def targets(self) -> tuple[Target, ...]:
        """A network that works, a good one, and one that few methods reach within the horizon."""
        return (
            Target("validation_error", 0.10),
            Target("validation_error", 0.05),
            Target("validation_loss", 0.06),
        )

    def roles(self) -> dict[str, str]:
        return {f"w{self.layers}": "head"}

    @property
    def sizes(self) -> list[int]:
        """Inputs, units of each hidden layer, classes."""
        return [64, *[self.width] * self.layers, digits.CLASSES]

    def init(self, seed: int) -> dict[str, Any]:
        """He-normal weights [out, in], zero biases."""
        rng, params = stream(seed, "init"), {}
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(self.sizes)):
            params[f"w{i}"] = rng.standard_normal((fan_out, fan_in)) * np.sqrt(2 / fan_in)
            params[f"b{i}"] = np.zeros(fan_out)
        return params

    def logits(self, ops: Operations, params: Arrays, x: Any) -> Any:
        for i in range(self.layers):
            x = ops.nn.relu(ops.linear(x, params[f"w{i}"], params[f"b{i}"]))
        return ops.linear(x, params[f"w{self.layers}"], params[f"b{self.layers}"])

    def working_floats(self) -> int:
        """Inputs, units before and after each ReLU, logits."""
        return self.batch * (64 + 2 * self.layers * self.width + digits.CLASSES)

    def flops(self) -> float:
        return 6.0 * self.batch * sum(a * b for a, b in itertools.pairwise(self.sizes))
