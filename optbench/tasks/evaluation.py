"""What losses and evaluations of several tasks share, in JAX and in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax
    import torch

PARTS = ("train", "validation", "test")


def jax_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log softmax(logits) at the labels, in nats: [n, classes] and [n] to [n]."""
    import jax
    import jax.numpy as jnp

    chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(logits, axis=1) - chosen


def jax_in_pieces(function: Callable[[jax.Array], jax.Array], rows: jax.Array, most: int) -> jax.Array:
    """`function(rows)`, computed on at most `most` rows at a time, which bounds memory; one compilation."""
    import jax
    import jax.numpy as jnp

    pieces = -(-len(rows) // most)
    size = -(-len(rows) // pieces)
    rim = [(0, pieces * size - len(rows)), *[(0, 0)] * (rows.ndim - 1)]
    made = jax.lax.map(function, jnp.pad(rows, rim).reshape(pieces, size, *rows.shape[1:]))
    return made.reshape(pieces * size, *made.shape[2:])[: len(rows)]


def torch_in_pieces(
    function: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, most: int
) -> torch.Tensor:
    """`function(rows)`, computed on at most `most` rows at a time, which bounds memory."""
    import torch

    return torch.cat([function(piece) for piece in rows.split(most)])


def means_by_part(rows: Mapping[str, Any], sizes: Sequence[int]) -> dict[str, Any]:
    """The mean of each metric over each part, whose rows follow each other; in either framework."""
    first, second, third = sizes
    parts = {"train": slice(first), "validation": slice(first, first + second), "test": slice(-third, None)}
    return {f"{part}_{name}": each[its].mean() for part, its in parts.items() for name, each in rows.items()}


def jax_scores(logits: jax.Array, labels: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Mean cross entropy and share of errors of each part; the rows of `logits` follow the parts."""
    import jax.numpy as jnp

    every = jnp.concatenate([labels[part] for part in PARTS])
    wrong = (jnp.argmax(logits, axis=1) != every).astype(logits.dtype)
    rows = {"loss": jax_cross_entropy(logits, every), "error": wrong}
    return means_by_part(rows, [len(labels[part]) for part in PARTS])


def torch_scores(logits: torch.Tensor, labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Mean cross entropy and share of errors of each part; the rows of `logits` follow the parts."""
    import torch
    from torch.nn.functional import cross_entropy

    every = torch.cat([labels[part] for part in PARTS])
    wrong = (logits.argmax(dim=1) != every).to(logits.dtype)
    rows = {"loss": cross_entropy(logits, every, reduction="none"), "error": wrong}
    return means_by_part(rows, [len(labels[part]) for part in PARTS])
