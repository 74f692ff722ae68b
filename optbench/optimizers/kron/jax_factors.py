"""The arithmetic of Kronecker factors in JAX: making, balancing, fitting and applying them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax.linalg import triangular_solve

from optbench.optimizers.kron import DAMPING, RMS_CLIP, along
from optbench.optimizers.kron.jax_triangular import DENSE, Cut, symmetric_lower_bound

CUT = Cut(least=128, most=8)
"""Measured on two CPUs (`make bench`); elsewhere, and where arrays are sharded, dense products are better."""
SMALL = 32
"""Rows of a triangular factor up to which those of all leaves are fitted as a stack."""
SHORT = 4
"""Axes of a tensor up to this length are walked slice by slice: a product would first transpose the tensor."""


def balanced(
    factors: list[list[jax.Array]], stacked: list[bool], release: str | None
) -> list[list[jax.Array]]:
    def one(qs: list[jax.Array]) -> list[jax.Array]:
        dtype = jnp.float32 if release else jnp.result_type(jnp.float32, *qs)
        norms = [jnp.max(jnp.abs(q)).astype(dtype) for q in qs]
        mean = jnp.prod(jnp.stack(norms)) ** (1 / len(qs))
        return [q * (mean / norm).astype(q.dtype) for q, norm in zip(qs, norms, strict=True)]

    return [
        qs if len(qs) == 1 else jax.vmap(one)(qs) if is_stack else one(qs)
        for qs, is_stack in zip(factors, stacked, strict=True)
    ]


def with_squares(g: jax.Array) -> jax.Array:
    """A float16 array as float32, and any other as it is: float16 has no square of 300, and none of 1e-4."""
    return g.astype(jnp.float32) if g.dtype == jnp.float16 else g


def damped(g: jax.Array, v: jax.Array) -> jax.Array:
    """G + sqrt(eps) mean|G| V, over the whole leaf."""
    return g + jnp.asarray(DAMPING, g.dtype) * jnp.mean(jnp.abs(g)) * v


class Leaf(NamedTuple):
    """What a step of the factors of one leaf takes: the factors, the damped gradient, the probe, the step size."""

    qs: list[jax.Array]
    g: jax.Array
    v: jax.Array
    lr: jax.Array


def fit_factors(qs: list[jax.Array], g: jax.Array, v: jax.Array, lr: jax.Array) -> list[jax.Array]:
    return by_platform(fitted, qs, qs, g, v, lr)


def fit_leaves(leaves: list[Leaf]) -> list[list[jax.Array]]:
    """One step of all factors of several leaves; small ones of one size as a stack, whichever leaf they are of.

    A network has many of them, and a compilation and a call of their own for each cost more than their arithmetic.
    """
    made = [[*leaf.qs] for leaf in leaves]
    stacks: dict[Any, list[Any]] = {}
    one: Any = partial(fit_factor, cut=DENSE)
    for i, leaf in enumerate(leaves):
        if is_cut(leaf.qs) or not any(map(is_small, leaf.qs)):
            made[i] = fit_factors(*leaf)
            continue
        for axis, pair in enumerate(gram_pairs(leaf.qs, leaf.g, leaf.v, DENSE)):
            q = leaf.qs[axis]
            if is_small(q):
                row = (q, *pair, leaf.lr)
                stacks.setdefault((len(q), q.dtype, leaf.g.dtype), []).append(((i, axis), row))
            else:
                made[i][axis] = one(q, *pair, leaf.lr)
    for stack in stacks.values():
        places, rows = zip(*stack, strict=True)
        new = jax.vmap(one)(*map(jnp.stack, zip(*rows, strict=True)))
        for k, (i, axis) in enumerate(places):
            made[i][axis] = new[k]
    return made


def is_cut(qs: list[jax.Array]) -> bool:
    """Whether products with these factors are cut into blocks on CPU."""
    return len(qs) == 2 and any(q.ndim == 2 and len(CUT.spans(len(q))) > 1 for q in qs)


def is_small(q: jax.Array) -> bool:
    return q.ndim == 2 and len(q) <= SMALL


def precondition(qs: list[jax.Array], g: jax.Array) -> jax.Array:
    return by_platform(preconditioned, qs, qs, g)


def by_platform(function: Callable[..., Any], qs: list[jax.Array], *given: Any) -> Any:
    """`function(*given, cut)`, with large triangular factors cut into blocks on CPU."""
    if not is_cut(qs):
        return function(*given, DENSE)
    return jax.lax.platform_dependent(
        *given,
        cpu=lambda *xs: function(*xs, CUT),
        default=lambda *xs: function(*xs, DENSE),
    )


def fitted(qs: list[jax.Array], g: jax.Array, v: jax.Array, lr: jax.Array, cut: Cut) -> list[jax.Array]:
    pairs = gram_pairs(qs, g, v, cut)
    return [fit_factor(q, *pair, lr, cut) for q, pair in zip(qs, pairs, strict=True)]


def gram_pairs(
    qs: list[jax.Array], g: jax.Array, v: jax.Array, cut: Cut
) -> list[tuple[jax.Array, jax.Array]]:
    """T1 and T2 of each axis: upper triangles of Gram matrices, or their diagonals where the factor is one."""
    dtype = g.dtype
    a, b = g, v
    for axis, q in enumerate(qs):
        a, b = times(q.astype(dtype), a, axis, cut), divide(q.astype(dtype), b, axis)
    return [
        (gram(a, axis, diagonal=True), gram(b, axis, diagonal=True))
        if q.ndim < 2
        else (cut.gram(rows(a, axis)), cut.gram(rows(b, axis)))
        for axis, q in enumerate(qs)
    ]


def fit_factor(q: jax.Array, t1: jax.Array, t2: jax.Array, lr: jax.Array, cut: Cut) -> jax.Array:
    """Q <- Q - lr tri(T1 - T2) Q / |T1 + T2|."""
    new = q.astype(t1.dtype)
    tiny = jnp.finfo(t1.dtype).tiny
    if q.ndim < 2:
        new = new - lr * (t1 - t2) * new / (jnp.max(jnp.abs(t1 + t2)) + tiny)
    else:
        new = new - cut.both(lr * (t1 - t2) / (symmetric_lower_bound(t1 + t2) + tiny), new)
    return new.astype(q.dtype)


def preconditioned(qs: list[jax.Array], g: jax.Array, cut: Cut) -> jax.Array:
    for axis, q in enumerate(qs):
        q = q.astype(g.dtype)
        if q.ndim < 2:
            g = times(q * q, g, axis)
        elif len(cut.spans(len(q))) == 1 and q.size < g.size:
            g = times(q.T @ q, g, axis)
        else:
            g = times_t(q, times(q, g, axis, cut), axis, cut)
    return g


def clip_rms(u: jax.Array) -> jax.Array:
    return u / jnp.maximum(1.0, jnp.sqrt(jnp.mean(u * u)) / RMS_CLIP)


def trust_region(u: jax.Array) -> jax.Array:
    """Bend each entry towards +-2, as psgd-jax 0.2.7 does in place of the clip."""
    y = u / 1.5
    return jnp.clip(1.5 * (0.1 * jnp.sign(y) * jnp.log1p(jnp.abs(y)) + 0.9 * jnp.tanh(y)), -2, 2)


def times(q: jax.Array, x: jax.Array, axis: int, cut: Cut = DENSE) -> jax.Array:
    """Q applied along one axis of x: sum_b Q[a, b] x[.., b, ..]."""
    if q.ndim < 2:
        return x * along(q, x.ndim, axis)
    if x.ndim == 2:
        return cut.right_t_times(x, q) if axis else cut.times(q, x)
    if len(q) <= SHORT:
        parts = slices(x, axis)
        return jnp.stack([sum(c * part for c, part in zip(row, parts, strict=True)) for row in q], axis)
    return back(q @ rows(x, axis), x, axis)


def times_t(q: jax.Array, x: jax.Array, axis: int, cut: Cut = DENSE) -> jax.Array:
    if x.ndim == 2:
        return cut.right_times(x, q) if axis else cut.t_times(q, x)
    return times(q.T, x, axis)


def divide(q: jax.Array, x: jax.Array, axis: int) -> jax.Array:
    """Q^{-T} applied along one axis of x."""
    if q.ndim < 2:
        return x / along(q, x.ndim, axis)
    if x.ndim > 2 and len(q) <= SHORT:
        done: list[jax.Array] = []
        for j, part in enumerate(slices(x, axis)):
            done.append((part - sum(q[i, j] * before for i, before in enumerate(done))) / q[j, j])
        return jnp.stack(done, axis)
    # Solving from the right is the fastest on CPU, and a transposed copy costs little.
    last = jnp.moveaxis(x, axis, -1)
    solved = triangular_solve(q, last.reshape(-1, len(q)), left_side=False, lower=False)
    return jnp.moveaxis(solved.reshape(last.shape), -1, axis)


def slices(x: jax.Array, axis: int) -> list[jax.Array]:
    return [jax.lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis])]


def rows(x: jax.Array, axis: int) -> jax.Array:
    """unf(x): one axis as rows, all others as columns."""
    return jnp.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)


def back(y: jax.Array, x: jax.Array, axis: int) -> jax.Array:
    others = x.shape[:axis] + x.shape[axis + 1 :]
    return jnp.moveaxis(y.reshape(-1, *others), 0, axis)


def gram(x: jax.Array, axis: int, diagonal: bool) -> jax.Array:
    """unf(x) unf(x)^T along one axis, or its diagonal."""
    if diagonal:
        return jnp.sum(x * x, axis=tuple(i for i in range(x.ndim) if i != axis))
    flat = rows(x, axis)
    return flat @ flat.T


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
