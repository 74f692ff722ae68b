"""Delayed XOR: a recurrent network must keep two bits in mind and combine them at the end of the sequence.

    x_t = (a_t, m_t),  a_t = -1 or 1,  m_t = 1 at two marked places and 0 elsewhere
    h_t = tanh(W_x x_t + W_h h_{t-1} + b),  z = w h_T + c,  loss = log(1 + exp(-y z))

y = 1 if the two marked signs differ, else -1. One mark falls into the first tenth of the sequence, the other between
a tenth and a half, so that half of the sequence is noise to sit through. After Hochreiter and Schmidhuber (1997),
with the numbers that the authors of PSGD use: tanh units, W_h starts orthogonal, the other weights from N(0, 0.01).
Each step sees fresh sequences drawn from the seed; those that are evaluated are fixed, 500 as training, validation and
test part each, and alike.

Guessing costs log 2 = 0.69; the network stays there until it has learned the second bit, and then falls fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import hyper
from optbench.lazy import np
from optbench.task import Functions, Presets, Target, stream
from optbench.tasks.network import PARTS, Network, Operations, joined, means_by_part

HELD_OUT = 500
"""Sequences of each part that is evaluated."""


@dataclass(frozen=True, kw_only=True)
class XorRNN(Network):
    __doc__ = __doc__
    presets: ClassVar[Presets] = {"xor_rnn_32": {"length": 32}}
    source: ClassVar[str] = "doi:10.1162/neco.1997.9.8.1735; arXiv:1512.04202"
    score: ClassVar[str] = "test_error"
    unit: ClassVar[str] = "sequences"

    length: int = hyper(16, "steps of a sequence", bounds="[4, 4096]")
    units: int = hyper(30, "recurrent units", bounds="[1, 4096]")
    batch: int = hyper(128, "sequences a step", bounds="[1, 16384]")

    @property
    def horizon(self) -> int:
        """Longer sequences take longer."""
        return 1000 * max(1, round(self.length / 16))

    def targets(self) -> tuple[Target, ...]:
        """Better than guessing, mostly right, and solved (the loss at which PSGD's authors stop)."""
        return (
            Target("validation_error", 0.4),
            Target("validation_error", 0.1),
            Target("validation_loss", 0.1),
        )

    def sequences(self, rng: Any, count: int) -> dict[str, Any]:
        """Signs as bits [count, length], and the two marked places [count, 2]."""
        first = np.floor(rng.random(count) * 0.1 * self.length)
        second = np.floor((0.1 + rng.random(count) * 0.4) * self.length)
        # Where a tenth of the length is not an integer, both may fall on the same step: the second moves on.
        second = np.where(second == first, second + 1, second)
        marks = np.stack([first, second], axis=1).astype(np.int32)
        return {"bits": rng.integers(2, size=(count, self.length)).astype(np.uint8), "marks": marks}

    def data(self) -> dict[str, Any]:
        """The sequences that are evaluated, the same for every seed."""
        arrays = {}
        for number, part in enumerate(PARTS):
            drawn = self.sequences(stream(number, "evaluated"), HELD_OUT)
            arrays |= {f"{part}_{key}": array for key, array in drawn.items()}
        return arrays

    def draws(self, seed: int, start: int, stop: int) -> dict[str, Any]:
        drawn = [self.sequences(stream(seed, f"batches/{t}"), self.batch) for t in range(start, stop)]
        return {key: np.stack([each[key] for each in drawn]) for key in drawn[0]}

    def roles(self) -> dict[str, str]:
        return {"output": "head"}

    def init(self, seed: int) -> dict[str, Any]:
        """Small normal weights [out, in], an orthogonal recurrent matrix, zero biases."""
        rng = stream(seed, "init")
        basis, triangle = np.linalg.qr(rng.standard_normal((self.units, self.units)))
        return {
            "input": 0.1 * rng.standard_normal((self.units, 2)),
            "recurrent": basis * np.sign(np.diag(triangle)),
            "bias": np.zeros(self.units),
            "output": 0.1 * rng.standard_normal((1, self.units)),
            "output_bias": np.zeros(1),
        }

    def functions(self, ops: Operations) -> Functions:
        def margins(params, bits, marks):
            index = ops.arange(self.length, bits)
            marked = (index == marks[:, :1]) | (index == marks[:, 1:])
            signs = 2.0 * ops.cast(bits, params["bias"].dtype) - 1
            inputs = ops.np.stack([signs, ops.cast(marked, signs.dtype)], 2)
            fed = ops.linear(inputs, params["input"], params["bias"])
            h = ops.last(lambda h, x: ops.np.tanh(x + ops.linear(h, params["recurrent"])), fed)
            z = ops.linear(h, params["output"])[:, 0] + params["output_bias"]
            kept = ops.take(signs, marks)
            return -kept[:, 0] * kept[:, 1] * z

        def loss(params, data, draw):
            return ops.nn.softplus(-margins(params, draw["bits"], draw["marks"])).mean()

        def evaluate(params, data):
            margin = margins(params, joined(ops, data, "bits"), joined(ops, data, "marks"))
            rows = {"loss": ops.nn.softplus(-margin), "error": ops.cast(margin <= 0, margin.dtype)}
            return means_by_part(rows, [HELD_OUT] * len(PARTS))

        return Functions(loss, evaluate)

    def working_floats(self) -> int:
        """Inputs, what they feed, and the units after each step."""
        return self.batch * self.length * (2 + 3 * self.units)

    def flops(self) -> float:
        return 6.0 * self.batch * self.length * self.units * (self.units + 2)
