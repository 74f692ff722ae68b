"""What tasks with a network share: functions written once for both frameworks, and scores of the parts of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from optbench.task import Arrays, Functions, Task
from optbench.tasks.data import digits
from optbench.tasks.data.digits import PARTS as PARTS


class Operations:
    """One framework as networks are written in: where JAX and PyTorch differ, under one name."""

    np: Any
    """jax.numpy or torch."""
    nn: Any
    """jax.nn or torch.nn.functional."""
    lax: Any

    def __init__(self, framework: str):
        self.jax = framework == "jax"
        if self.jax:
            import jax.numpy

            self.np, self.nn, self.lax = jax.numpy, jax.nn, jax.lax
        else:
            import torch

            self.np, self.nn = torch, torch.nn.functional

    def arange(self, count: int, like: Any) -> Any:
        """0, 1, .. below a number, on the device of an array."""
        return self.np.arange(count) if self.jax else self.np.arange(count, device=like.device)

    def cast(self, array: Any, dtype: Any) -> Any:
        return array.astype(dtype) if self.jax else array.to(dtype)

    def integers(self, array: Any) -> Any:
        """Of a type that indexes."""
        return self.cast(array, self.np.int32 if self.jax else self.np.int64)

    def take(self, array: Any, columns: Any) -> Any:
        """Of each row the entries at some columns: [n, m] and [n, k] to [n, k]."""
        if self.jax:
            return self.np.take_along_axis(array, columns, axis=1)
        return array.gather(1, self.integers(columns))

    def linear(self, x: Any, weight: Any, bias: Any = None) -> Any:
        """x W^T + b of x, W [out, in] and perhaps b."""
        if not self.jax:
            return self.nn.linear(x, weight, bias)
        return x @ weight.T if bias is None else x @ weight.T + bias

    def cross_entropy(self, logits: Any, labels: Any) -> Any:
        """-log softmax(logits) at the labels, in nats: [n, classes] and [n] to [n]."""
        if not self.jax:
            return self.nn.cross_entropy(logits, labels, reduction="none")
        chosen = self.take(logits, labels[:, None])[:, 0]
        return self.nn.logsumexp(logits, axis=1) - chosen

    def mean_cross_entropy(self, logits: Any, labels: Any) -> Any:
        return (
            self.cross_entropy(logits, labels).mean() if self.jax else self.nn.cross_entropy(logits, labels)
        )

    def last(self, step: Callable[[Any, Any], Any], xs: Any) -> Any:
        """The last of h <- step(h, x[:, t]) over all t, from zeros."""
        h = self.np.zeros_like(xs[:, 0])
        if self.jax:
            return self.lax.scan(lambda h, x: (step(h, x), None), h, xs.swapaxes(0, 1))[0]
        for t in range(xs.shape[1]):
            h = step(h, xs[:, t])
        return h

    def in_pieces(self, function: Callable[[Any], Any], rows: Any, most: int) -> Any:
        """`function(rows)`, computed on at most so many rows at a time, which bounds memory."""
        if not self.jax:
            return self.np.concatenate([function(piece) for piece in rows.split(most)])
        pieces = -(-len(rows) // most)
        size = -(-len(rows) // pieces)
        rim = [(0, pieces * size - len(rows)), *[(0, 0)] * (rows.ndim - 1)]
        made = self.lax.map(function, self.np.pad(rows, rim).reshape(pieces, size, *rows.shape[1:]))
        return made.reshape(pieces * size, *made.shape[2:])[: len(rows)]


class WrittenOnce(Task):
    """A task whose functions are written once for both frameworks, in `functions`."""

    def functions(self, ops: Operations) -> Functions:
        raise NotImplementedError

    def jax(self) -> Functions:
        return self.functions(Operations("jax"))

    def torch(self) -> Functions:
        return self.functions(Operations("torch"))


class Network(WrittenOnce):
    """Its data have three parts."""

    selection: ClassVar[str] = "validation_loss"
    batch: int

    @property
    def batch_size(self) -> int:
        return self.batch


class Classifier(Network):
    """A network whose loss is the cross entropy of `logits` of the batch's rows of its data."""

    x: ClassVar[str] = "train_x"
    y: ClassVar[str] = "train_y"
    """The arrays of the data that it is trained on."""

    def logits(self, ops: Operations, params: Arrays, x: Any) -> Any:
        raise NotImplementedError

    def functions(self, ops: Operations) -> Functions:
        def loss(params, data, draw):
            rows = draw["rows"]
            z = self.logits(ops, params, data[self.x][rows])
            return ops.mean_cross_entropy(z, ops.integers(data[self.y][rows]))

        def evaluate(params, data):
            return scores(ops, self.logits(ops, params, joined(ops, data, "x")), data)

        return Functions(loss, evaluate)


class DigitsNetwork(Network):
    """On the digits of scikit-learn."""

    def data(self) -> dict[str, Any]:
        return digits.splits()

    def data_hash(self) -> str:
        return digits.data_hash()

    def rows(self) -> int:
        return len(digits.splits()["train_y"])


def means_by_part(rows: Mapping[str, Any], sizes: Sequence[int]) -> dict[str, Any]:
    """The mean of each metric over each part; the rows of the parts follow each other."""
    first, second, third = sizes
    parts = {"train": slice(first), "validation": slice(first, first + second), "test": slice(-third, None)}
    return {f"{part}_{name}": each[its].mean() for part, its in parts.items() for name, each in rows.items()}


def joined(ops: Operations, data: Mapping[str, Any], key: str) -> Any:
    """What is evaluated, part after part."""
    return ops.np.concatenate([data[f"{part}_{key}"] for part in PARTS])


def scores(ops: Operations, logits: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """Mean cross entropy and share of errors of each part; the rows of `logits` follow the parts."""
    labels = ops.integers(joined(ops, data, "y"))
    wrong = ops.cast(logits.argmax(1) != labels, logits.dtype)
    rows = {"loss": ops.cross_entropy(logits, labels), "error": wrong}
    return means_by_part(rows, [len(data[f"{part}_y"]) for part in PARTS])
