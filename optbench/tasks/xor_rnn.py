"""Delayed XOR: a recurrent network must keep two bits in mind and combine them at the end of the sequence.

    x_t = (a_t, m_t),  a_t = -1 or 1,  m_t = 1 at two marked places and 0 elsewhere
    h_t = tanh(W_x x_t + W_h h_{t-1} + b),  z = w h_T + c,  loss = log(1 + exp(-y z))

y = 1 if the two marked signs differ, else -1. One mark falls into the first tenth of the sequence, the other between
a tenth and a half, so that half of the sequence is noise to sit through. After Hochreiter and Schmidhuber (1997),
with the numbers that the authors of PSGD use: tanh units, W_h starts orthogonal, the other weights from N(0, 0.01).
Each step sees fresh sequences drawn from the seed; those that are evaluated are fixed, 500 as training, validation and
test part each, and alike.

Guessing costs log 2 = 0.69; the network stays there until it has found the second bit, and then falls fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from optbench.fields import hyper
from optbench.task import Functions, Presets, Target, Task, stream
from optbench.tasks.evaluation import PARTS, means_by_part

if TYPE_CHECKING:
    import numpy as np

HELD_OUT = 500
"""Sequences of each part that is evaluated."""


@dataclass(frozen=True, kw_only=True)
class XorRNN(Task):
    __doc__ = __doc__
    name: ClassVar[str] = "xor_rnn"
    presets: ClassVar[Presets] = {"xor_rnn_32": {"length": 32}}
    source: ClassVar[str] = "doi:10.1162/neco.1997.9.8.1735; arXiv:1512.04202"
    selection: ClassVar[str] = "validation_loss"
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

    def sequences(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """Signs as bits [count, length], and the two marked places [count, 2]."""
        import numpy as np

        first = np.floor(rng.random(count) * 0.1 * self.length)
        second = np.floor((0.1 + rng.random(count) * 0.4) * self.length)
        # Where a tenth of the length is no whole number, both may fall on the same place: the second moves on.
        second = np.where(second == first, second + 1, second)
        marks = np.stack([first, second], axis=1).astype(np.int32)
        return {"bits": rng.integers(2, size=(count, self.length)).astype(np.uint8), "marks": marks}

    def data(self) -> dict[str, np.ndarray]:
        """The sequences that are evaluated, the same for every seed."""
        found = {}
        for number, part in enumerate(PARTS):
            drawn = self.sequences(stream(number, "evaluated"), HELD_OUT)
            found |= {f"{part}_{key}": array for key, array in drawn.items()}
        return found

    def draws(self, seed: int, start: int, stop: int) -> dict[str, np.ndarray]:
        """Fresh sequences for each step."""
        import numpy as np

        drawn = [self.sequences(stream(seed, f"batches/{t}"), self.batch) for t in range(start, stop)]
        return {key: np.stack([each[key] for each in drawn]) for key in drawn[0]}

    def init(self, seed: int) -> dict[str, np.ndarray]:
        """Small normal weights [out, in], an orthogonal recurrent matrix, zero biases."""
        import numpy as np

        rng = stream(seed, "init")
        basis, triangle = np.linalg.qr(rng.standard_normal((self.units, self.units)))
        return {
            "input": 0.1 * rng.standard_normal((self.units, 2)),
            "recurrent": basis * np.sign(np.diag(triangle)),
            "bias": np.zeros(self.units),
            "output": 0.1 * rng.standard_normal((1, self.units)),
            "output_bias": np.zeros(1),
        }

    def jax(self) -> Functions:
        """The network in JAX, a scan over the sequence."""
        import jax
        import jax.numpy as jnp

        def margins(params, bits, marks):
            marked = (jnp.arange(self.length) == marks[:, :1]) | (jnp.arange(self.length) == marks[:, 1:])
            signs = 2.0 * bits.astype(params["bias"].dtype) - 1
            fed = jnp.stack([signs, marked.astype(signs.dtype)], axis=2) @ params["input"].T + params["bias"]

            def step(h, x):
                return jnp.tanh(x + h @ params["recurrent"].T), None

            h, _ = jax.lax.scan(step, jnp.zeros_like(fed[:, 0]), fed.swapaxes(0, 1))
            z = (h @ params["output"].T)[:, 0] + params["output_bias"]
            kept = jnp.take_along_axis(signs, marks, axis=1)
            return -kept[:, 0] * kept[:, 1] * z

        def loss(params, data, draw):
            return jnp.mean(jax.nn.softplus(-margins(params, draw["bits"], draw["marks"])))

        def evaluate(params, data):
            bits, marks = (
                jnp.concatenate([data[f"{part}_{key}"] for part in PARTS]) for key in ("bits", "marks")
            )
            margin = margins(params, bits, marks)
            rows = {"loss": jax.nn.softplus(-margin), "error": (margin <= 0).astype(margin.dtype)}
            return means_by_part(rows, [HELD_OUT] * len(PARTS))

        return Functions(loss, evaluate)

    def torch(self) -> Functions:
        """The network in PyTorch."""
        import torch
        from torch.nn.functional import linear, softplus

        def margins(params, bits, marks):
            places = torch.arange(self.length, device=bits.device)
            marked = (places == marks[:, :1]) | (places == marks[:, 1:])
            signs = 2.0 * bits.to(params["bias"].dtype) - 1
            fed = linear(torch.stack([signs, marked.to(signs.dtype)], dim=2), params["input"], params["bias"])
            h = torch.zeros_like(fed[:, 0])
            for t in range(self.length):
                h = torch.tanh(fed[:, t] + linear(h, params["recurrent"]))
            z = linear(h, params["output"])[:, 0] + params["output_bias"]
            kept = signs.gather(1, marks.to(torch.int64))
            return -kept[:, 0] * kept[:, 1] * z

        def loss(params, data, draw):
            return softplus(-margins(params, draw["bits"], draw["marks"])).mean()

        def evaluate(params, data):
            bits, marks = (torch.cat([data[f"{part}_{key}"] for part in PARTS]) for key in ("bits", "marks"))
            margin = margins(params, bits, marks)
            rows = {"loss": softplus(-margin), "error": (margin <= 0).to(margin.dtype)}
            return means_by_part(rows, [HELD_OUT] * len(PARTS))

        return Functions(loss, evaluate)

    def examples(self) -> int:
        """Sequences."""
        return self.batch

    def working_floats(self) -> int:
        """Inputs, what they feed, and the units after each step."""
        return self.batch * self.length * (2 + 3 * self.units)

    def flops(self) -> float:
        """Six for each weight, sequence and step of it."""
        return 6.0 * self.batch * self.length * self.units * (self.units + 2)
