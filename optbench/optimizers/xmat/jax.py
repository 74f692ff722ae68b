"""PSGD XMat as an optax transformation; the mathematics is on the page of `optbench.optimizers.xmat`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.optimizers.psgd.jax import Factors, Fit, WholeTree, finished, group_factory, scale_by_group
from optbench.optimizers.xmat import XMat
from optbench.protocol import Noise


@group_factory(XMat)
def xmat(
    learning_rate: Any, weight_decay: Any, mask: Any, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """PSGD XMat: Q = diag(a) + antidiag(b) on all leaves as one vector.

    `update(grads, state, params)` whitens; `update(..., Hvp=, vector=, update_preconditioner=)` fits the
    preconditioner to a Hessian-vector product, such as `hessian_helper` gives. Weight decay needs `params`.

    Raises:
        ValueError: a hyperparameter is out of its range (a clip of 0 included), or `update` gets `Hvp`
            without `vector` or `update_preconditioner`.
    """
    return finished(scale_by_xmat(**options), learning_rate, weight_decay, mask)


@group_factory(XMat, scale_only=True)
def scale_by_xmat(**options: Any) -> optax.GradientTransformationExtraArgs:
    """`xmat` without learning rate and weight decay."""
    return scale_by_group(XMat, XGroup(), **options)


class XGroup(WholeTree):
    """Q = diag(a) + antidiag(b)."""

    def init(self, unit: jax.Array, noise: Noise) -> Factors:
        """The identity."""
        return {"a": jnp.ones_like(unit), "b": jnp.zeros_like(unit)}

    def scaled(self, factors: Factors, scale: jax.Array) -> Factors:
        """Q times a number, before the first fit: b is still 0."""
        return {"a": scale * factors["a"], "b": factors["b"]}

    def fit(self, factors: Factors, given: Fit) -> Factors:
        """One relative gradient step of a and b."""
        a, b = factors["a"], factors["b"]
        h, v = given.h, given.v
        assert v is not None
        w = a * h + b * h[::-1]
        z = (a[::-1] * v - b[::-1] * v[::-1]) / (a * a[::-1] - b * b[::-1])
        size_a = w * w - z * z
        size_b = w * w[::-1] - z * z[::-1]
        if h.size % 2:
            # The middle entry is on both diagonals; a has it.
            size_b = size_b.at[h.size // 2].set(0)
        if given.second_order:
            bound = jnp.max(w * w + z * z)
        else:
            bound = jnp.maximum(jnp.max(jnp.abs(size_a)), jnp.max(jnp.abs(size_b)))
        k = given.lr / jnp.maximum(bound, 1e-25)
        return {
            "a": a - k * (size_a * a + size_b * b[::-1]),
            "b": b - k * (size_a * b + size_b * a[::-1]),
        }

    def apply(self, factors: Factors, m: jax.Array) -> jax.Array:
        """Q^T Q m."""
        a, b = factors["a"], factors["b"]
        cross = a * b
        return (a * a + (b * b)[::-1]) * m + (cross + cross[::-1]) * m[::-1]
