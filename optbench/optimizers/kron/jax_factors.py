"""The arithmetic of Kronecker factors in JAX: applying, dividing, fitting."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular


def times(q: jax.Array, x: jax.Array, axis: int) -> jax.Array:
    """Q applied along one axis of x: sum_b Q[a, b] x[.., b, ..]."""
    if q.ndim < 2:
        return x * q if q.ndim == 0 else x * along(q, x.ndim, axis)
    return jnp.moveaxis(jnp.tensordot(q, x, axes=(1, axis)), 0, axis)


def along(q: jax.Array, ndim: int, axis: int) -> jax.Array:
    """A vector shaped to broadcast along one axis."""
    return q.reshape([-1 if i == axis else 1 for i in range(ndim)])


def divide(q: jax.Array, x: jax.Array, axis: int) -> jax.Array:
    """Q^{-T} applied along one axis of x."""
    if q.ndim < 2:
        return x / q if q.ndim == 0 else x / along(q, x.ndim, axis)
    front = jnp.moveaxis(x, axis, 0)
    solved = solve_triangular(q, front.reshape(front.shape[0], -1), trans="T")
    return jnp.moveaxis(solved.reshape(front.shape), 0, axis)


def gram(x: jax.Array, axis: int, diagonal: bool) -> jax.Array:
    """unf(x) unf(x)^T along one axis, or its diagonal."""
    others = tuple(i for i in range(x.ndim) if i != axis)
    if diagonal:
        return jnp.sum(x * x, axis=others)
    return jnp.tensordot(x, x, axes=(others, others))


def fit_factors(qs: list[jax.Array], g: jax.Array, v: jax.Array, lr: float | jax.Array) -> list[jax.Array]:
    """One step of all factors of one leaf, each from the old ones."""
    dtype = g.dtype
    a, b = g, v
    for axis, q in enumerate(qs):
        a, b = times(q.astype(dtype), a, axis), divide(q.astype(dtype), b, axis)
    return [fit_factor(q, a, b, axis, lr) for axis, q in enumerate(qs)]


def fit_factor(q: jax.Array, a: jax.Array, b: jax.Array, axis: int, lr: float | jax.Array) -> jax.Array:
    """Q <- Q - lr tri(T1 - T2) Q / |T1 + T2|."""
    new = q.astype(a.dtype)
    tiny = jnp.finfo(a.dtype).tiny
    t1, t2 = gram(a, axis, q.ndim < 2), gram(b, axis, q.ndim < 2)
    if q.ndim < 2:
        new = new - lr * (t1 - t2) * new / (jnp.max(jnp.abs(t1 + t2)) + tiny)
    else:
        new = new - (jnp.triu(lr * (t1 - t2)) / (norm_lower_bound(t1 + t2) + tiny)) @ new
    return new.astype(q.dtype)


def norm_lower_bound(a: jax.Array) -> jax.Array:
    """A cheap lower bound of the spectral norm, from the longest column.

    The original chooses between longest row and longest column; for a symmetric matrix both are the same.
    """
    largest = jnp.max(jnp.abs(a))

    def bound() -> jax.Array:
        b = a / largest
        x = b[:, jnp.argmax(jnp.sum(b * b, axis=0))] @ b
        return largest * jnp.linalg.norm(b @ (x / jnp.linalg.norm(x)))

    return jnp.where(largest > 0, bound(), largest)


def precondition(qs: list[jax.Array], g: jax.Array) -> jax.Array:
    """P G with P = Q^T Q along each axis."""
    for axis, q in enumerate(qs):
        q = q.astype(g.dtype)
        g = times(q * q, g, axis) if q.ndim < 2 else times(q.T, times(q, g, axis), axis)
    return g
