"""Sparse features: the next character from hashed n-grams before it, each with a row of an embedding.

    z = W (1 / n) sum_{i=1..n} E[h_i] + b,  loss = cross entropy in nats per character
    h_i = (c_{-1} + 1) g + (c_{-2} + 1) g^2 + .. + (c_{-i} + 1) g^i + i  modulo a prime and the number of buckets

c_{-i} is the i-th last character. A batch touches few rows of E, common ones at almost every step and rare ones almost
never, so a method that weighs rows by their own gradients differs from one that does not. After the linear models of
arXiv:1607.01759 on features hashed as in arXiv:0902.2206. E starts from N(0, 1), W and b from 0.

The text is split as for `transformer`; its first target is what counting characters gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import hyper
from optbench.lazy import np
from optbench.task import Arrays, Target, stream
from optbench.tasks.data import text
from optbench.tasks.network import PARTS, Classifier, Operations

PRIME, BASE = 2**31 - 1, 1_000_003
EVALUATED = 2048
"""Characters of each part that are evaluated, spread evenly over it."""


@dataclass(frozen=True, kw_only=True)
class NGrams(Classifier):
    __doc__ = __doc__
    source: ClassVar[str] = "arXiv:1607.01759, arXiv:0902.2206; text of Python's help()"
    score: ClassVar[str] = "test_loss"
    unit: ClassVar[str] = "characters"
    evaluations: ClassVar[int] = 10
    horizon: ClassVar[int] = 400
    """Half of the training part."""
    x: ClassVar[str] = "features"
    y: ClassVar[str] = "labels"

    orders: int = hyper(3, "the longest n-gram", bounds="[1, 16]")
    buckets: int = hyper(512, "rows of the embedding", bounds="[2, 1048576]")
    width: int = hyper(16, "columns of the embedding", bounds="[1, 4096]")
    batch: int = hyper(64, "characters a step", bounds="[1, 8192]")

    def targets(self) -> tuple[Target, ...]:
        """Better than counting characters, a good model, and one that few methods reach within the horizon."""
        return tuple(Target("validation_loss", value) for value in (3.31856, 2.7, 2.5))

    def roles(self) -> dict[str, str]:
        return {"embedding": "embedding", "head": "head"}

    def init(self, seed: int) -> dict[str, Any]:
        """Normal rows [buckets, width]; weights [vocabulary, width] and shifts of 0."""
        vocabulary = text.load("pydoc").vocabulary
        return {
            "embedding": stream(seed, "init").standard_normal((self.buckets, self.width)),
            "head": np.zeros((vocabulary, self.width)),
            "head_shift": np.zeros(vocabulary),
        }

    def hashed(self, tokens: Any) -> tuple[Any, Any]:
        """The buckets of the n-grams before each character [n - orders, orders], and the characters."""
        codes, found = tokens.astype(np.int64) + 1, []
        value, power = np.zeros(len(codes) - self.orders, np.int64), 1
        for order in range(1, self.orders + 1):
            power = power * BASE % PRIME
            value = (value + codes[self.orders - order : len(codes) - order] * power) % PRIME
            found.append((value + order) % PRIME % self.buckets)
        return np.stack(found, 1).astype(np.int32), tokens[self.orders :]

    def data(self) -> dict[str, Any]:
        """Training features and labels, and what is evaluated of each part."""
        parts = {part: self.hashed(tokens) for part, tokens in text.load("pydoc").parts().items()}
        arrays: dict[str, Any] = {"features": parts["train"][0], "labels": parts["train"][1]}
        for part in PARTS:
            features, labels = parts[part]
            rows = np.arange(EVALUATED) * len(labels) // EVALUATED
            arrays |= {f"{part}_x": features[rows], f"{part}_y": labels[rows]}
        return arrays

    def data_hash(self) -> str:
        return text.data_hash("pydoc")

    def rows(self) -> int:
        return len(text.load("pydoc").parts()["train"]) - self.orders

    def logits(self, ops: Operations, params: Arrays, x: Any) -> Any:
        features = params["embedding"][ops.integers(x)].mean(1)
        return ops.linear(features, params["head"], params["head_shift"])

    def working_floats(self) -> int:
        return self.batch * ((self.orders + 1) * self.width + 2 * text.load("pydoc").vocabulary)

    def flops(self) -> float:
        return 6.0 * self.batch * self.width * (self.orders + text.load("pydoc").vocabulary)
