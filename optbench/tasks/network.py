"""What tasks with a network share: functions written once for both frameworks, and scores of the parts of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from optbench.task import Arrays, Functions, Task
from optbench.tasks.data import digits
from optbench.tasks.data.digits import PARTS as PARTS


class Operations(NamedTuple):
    """One framework as networks are written in: where the two differ, under one name."""

    framework: str
    np: Any
    """jax.numpy or torch."""
    nn: Any
    """jax.nn or torch.nn.functional."""
    arange: Callable[[int, Any], Any]
    """0, 1, .. below a number, on the device of an array."""
    integers: Callable[[Any], Any]
    """Of a type that indexes."""
    cast: Callable[[Any, Any], Any]
    take: Callable[[Any, Any], Any]
    """Of each row the entries at some columns: [n, m] and [n, k] to [n, k]."""
    linear: Callable[..., Any]
    """x W^T + b of x, W [out, in] and perhaps b."""
    cross_entropy: Callable[[Any, Any], Any]
    """-log softmax(logits) at the labels, in nats: [n, classes] and [n] to [n]."""
    mean_cross_entropy: Callable[[Any, Any], Any]
    last: Callable[[Callable[[Any, Any], Any], Any], Any]
    """The last of h <- step(h, x[:, t]) over all t, from zeros."""
    in_pieces: Callable[[Callable[[Any], Any], Any, int], Any]
    """`function(rows)`, computed on at most so many rows at a time, which bounds memory."""


def jax_operations() -> Operations:
    import jax
    import jax.numpy as jnp

    def linear(x, weight, bias=None):
        return x @ weight.T if bias is None else x @ weight.T + bias

    def cross_entropy(logits, labels):
        chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
        return jax.nn.logsumexp(logits, axis=1) - chosen

    def last(step, xs):
        first = jnp.zeros_like(xs[:, 0])
        return jax.lax.scan(lambda h, x: (step(h, x), None), first, xs.swapaxes(0, 1))[0]

    def in_pieces(function, rows, most):
        pieces = -(-len(rows) // most)
        size = -(-len(rows) // pieces)
        rim = [(0, pieces * size - len(rows)), *[(0, 0)] * (rows.ndim - 1)]
        made = jax.lax.map(function, jnp.pad(rows, rim).reshape(pieces, size, *rows.shape[1:]))
        return made.reshape(pieces * size, *made.shape[2:])[: len(rows)]

    return Operations(
        framework="jax",
        np=jnp,
        nn=jax.nn,
        arange=lambda count, like: jnp.arange(count),
        integers=lambda array: array.astype(jnp.int32),
        cast=lambda array, dtype: array.astype(dtype),
        take=lambda array, columns: jnp.take_along_axis(array, columns, axis=1),
        linear=linear,
        cross_entropy=cross_entropy,
        mean_cross_entropy=lambda logits, labels: jnp.mean(cross_entropy(logits, labels)),
        last=last,
        in_pieces=in_pieces,
    )


def torch_operations() -> Operations:
    import torch
    from torch.nn import functional

    def last(step, xs):
        h = torch.zeros_like(xs[:, 0])
        for t in range(xs.shape[1]):
            h = step(h, xs[:, t])
        return h

    return Operations(
        framework="torch",
        np=torch,
        nn=functional,
        arange=lambda count, like: torch.arange(count, device=like.device),
        integers=lambda array: array.to(torch.int64),
        cast=lambda array, dtype: array.to(dtype),
        take=lambda array, columns: array.gather(1, columns.to(torch.int64)),
        linear=functional.linear,
        cross_entropy=lambda logits, labels: functional.cross_entropy(logits, labels, reduction="none"),
        mean_cross_entropy=functional.cross_entropy,
        last=last,
        in_pieces=lambda function, rows, most: torch.cat([function(piece) for piece in rows.split(most)]),
    )


class WrittenOnce(Task):
    """A task whose functions are written once for both frameworks, in `functions`."""

    def functions(self, ops: Operations) -> Functions:
        raise NotImplementedError

    def jax(self) -> Functions:
        return self.functions(jax_operations())

    def torch(self) -> Functions:
        return self.functions(torch_operations())


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
