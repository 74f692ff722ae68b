"""PSGD LRA as an optax transformation; the mathematics is on the page of `optbench.optimizers.lra`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.scipy.linalg import lu_factor, lu_solve

from optbench.optimizers.lra import LRA
from optbench.optimizers.psgd import BALANCE_PROBABILITY
from optbench.optimizers.psgd.jax import (
    Factors,
    Fit,
    WholeTree,
    check_static,
    finished,
    group_factory,
    scale_by_group,
)
from optbench.protocol import Noise


@group_factory(LRA, "uvd_rank_of_approximation")
def low_rank_approximation(
    learning_rate: Any, weight_decay: Any, mask: Any, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """PSGD LRA: Q = (I + U V^T) diag(d) on all leaves as one vector.

    `update(grads, state, params)` whitens; `update(..., Hvp=, vector=, update_preconditioner=)` fits the
    preconditioner to a Hessian-vector product, such as `hessian_helper` gives. Weight decay needs `params`.

    Raises:
        ValueError: a hyperparameter is out of its range (a clip of 0 included), or `update` gets `Hvp`
            without `vector` or `update_preconditioner`.
    """
    return finished(scale_by_lra(**options), learning_rate, weight_decay, mask)


lra = low_rank_approximation


@group_factory(LRA, "uvd_rank_of_approximation", scale_only=True)
def scale_by_lra(uvd_rank_of_approximation: int, **options: Any) -> optax.GradientTransformationExtraArgs:
    """`low_rank_approximation` without learning rate and weight decay."""
    check_static("lra", uvd_rank_of_approximation=uvd_rank_of_approximation)
    return scale_by_group(LRA, LowRank(uvd_rank_of_approximation), **options)


class LowRank(WholeTree):
    """Q = (I + U V^T) diag(d); U, V [n, r], d [n, 1] as in the original's state."""

    def __init__(self, rank: int):
        self.rank = rank

    def init(self, unit: jax.Array, noise: Noise) -> Factors:
        """d = 1, and small random U and V."""
        n, r = unit.size, self.rank
        like = jax.ShapeDtypeStruct((n, r), unit.dtype)
        small = (n * (r + 10)) ** 0.5
        return {
            "U": noise.normal("init_U", 0, like) / small,
            "V": noise.normal("init_V", 0, like) / small,
            "d": jnp.ones((n, 1), unit.dtype),
        }

    def scaled(self, factors: Factors, scale: jax.Array) -> Factors:
        """Q times a number."""
        return {**factors, "d": scale * factors["d"]}

    def fit(self, factors: Factors, given: Fit) -> Factors:
        """One relative gradient step of d and of one of U and V."""
        assert given.v is not None
        h, v, d = given.h, given.v, factors["d"][:, 0]
        U, V = balanced(factors["U"], factors["V"], given.uniform("balance_u") < BALANCE_PROBABILITY)
        a = d * h + U @ (V.T @ (d * h))
        curved = d * (a + V @ (U.T @ a))
        small = jnp.eye(self.rank, dtype=h.dtype) + V.T @ U
        factored = lu_factor(small)
        b = v / d
        b = b - V @ lu_solve(factored, U.T @ b, trans=1)
        flattened = (b - U @ lu_solve(factored, V.T @ b)) / d
        new_d = d - fit_diagonal(h, v, curved, flattened, given) * d
        take_u = given.uniform("choose_u") < 0.5
        U, V = jax.lax.cond(
            take_u,
            lambda: fit_left(U, V, a, b, small, given),
            lambda: fit_right(U, V, a, b, small, given),
        )
        return {"U": U, "V": V, "d": new_d[:, None]}

    def apply(self, factors: Factors, m: jax.Array) -> jax.Array:
        """Q^T Q m."""
        U, V, d = factors["U"], factors["V"], factors["d"][:, 0]
        x = d * m
        x = x + U @ (V.T @ x)
        return d * (x + V @ (U.T @ x))


def floored(x: jax.Array) -> jax.Array:
    """x, but not below 1e-25."""
    return jnp.maximum(x, 1e-25)


def balanced(U: jax.Array, V: jax.Array, now: jax.Array) -> tuple[jax.Array, jax.Array]:
    """U and V with the same norm; U V^T stays."""
    ratio = jnp.where(now, jnp.sqrt(jnp.linalg.norm(U) / jnp.linalg.norm(V)), 1)
    return U / ratio, V * ratio


def fit_diagonal(
    h: jax.Array, v: jax.Array, curved: jax.Array, flattened: jax.Array, given: Fit
) -> jax.Array:
    """The relative step of d."""
    gradient = curved * h - v * flattened
    if not given.second_order:
        return given.lr / floored(jnp.max(jnp.abs(gradient))) * gradient
    sizes = floored(curved**2 + v**2) ** -0.5 * floored(h**2 + flattened**2) ** -0.5
    return given.lr * jnp.min(sizes) * gradient


def step_size(a: jax.Array, b: jax.Array, W: jax.Array, given: Fit) -> jax.Array:
    """The step of one of U and V, W being the other one."""
    wa, wb = W @ (W.T @ a), W @ (W.T @ b)
    if given.second_order:
        norm = jnp.linalg.norm
        return given.lr / floored(norm(a) * norm(wa) + norm(b) * norm(wb))
    squared = (a @ a) * (wa @ wa) + (b @ b) * (wb @ wb) - 2 * (a @ b) * (wa @ wb)
    return given.lr / floored(jnp.sqrt(jnp.abs(squared)))


def fit_left(
    U: jax.Array, V: jax.Array, a: jax.Array, b: jax.Array, small: jax.Array, given: Fit
) -> tuple[jax.Array, jax.Array]:
    """One step of U."""
    change = jnp.outer(a, (a @ V) @ small) - jnp.outer(b, (b @ V) @ small)
    return U - step_size(a, b, V, given) * change, V


def fit_right(
    U: jax.Array, V: jax.Array, a: jax.Array, b: jax.Array, small: jax.Array, given: Fit
) -> tuple[jax.Array, jax.Array]:
    """One step of V."""
    ua, ub = U.T @ a, U.T @ b
    change = jnp.outer(a + V @ ua, ua) - jnp.outer(b + V @ ub, ub)
    return U, V - step_size(a, b, U, given) * change
