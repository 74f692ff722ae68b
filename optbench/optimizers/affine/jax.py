"""PSGD Affine as an optax transformation; the mathematics is on the page of `optbench.optimizers.affine`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.scipy.linalg import solve_triangular

from optbench.optimizers.affine import Affine, Sides, matricized
from optbench.optimizers.kron.jax_factors import divide, gram, norm_lower_bound, precondition, times
from optbench.optimizers.psgd import BALANCE_PROBABILITY
from optbench.optimizers.psgd.jax import Factors, Fit, check_static, finished, group_factory, scale_by_group
from optbench.protocol import Noise, normals
from optbench.rules.optax import leaf_names

LIMITS = " ".join(Sides._fields)


@group_factory(Affine, LIMITS)
def affine(
    learning_rate: Any, weight_decay: Any, mask: Any, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """PSGD Affine: each leaf as a matrix, with a triangular or diagonal factor on either side.

    `update(grads, state, params)` whitens; `update(..., Hvp=, vector=, update_preconditioner=)` fits the
    preconditioner to a Hessian-vector product, such as `hessian_helper` gives. Weight decay needs `params`.

    Raises:
        ValueError: a hyperparameter is out of its range (a clip of 0 included), or `update` gets `Hvp`
            without `vector` or `update_preconditioner`.
    """
    return finished(scale_by_affine(**options), learning_rate, weight_decay, mask)


@group_factory(Affine, LIMITS, scale_only=True)
def scale_by_affine(
    max_size_triangular: int, max_skew_triangular: float, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """`affine` without learning rate and weight decay."""
    sides = Sides(max_size_triangular, max_skew_triangular)
    check_static("affine", **sides._asdict())
    return scale_by_group(Affine, Sided(sides), **options)


class Sided:
    """Q = (left, right) for each leaf as a matrix."""

    def __init__(self, sides: Sides):
        self.sides = sides

    def units(self, tree: Any) -> list[jax.Array]:
        """Each leaf as a matrix, in float32 at least."""
        return [matrix(leaf) for leaf in jax.tree.leaves(tree)]

    def restore(self, units: list[jax.Array], like: Any) -> Any:
        """The tree back from its matrices."""
        leaves, structure = jax.tree.flatten(like)
        return structure.unflatten([leaf_of(x, leaf) for x, leaf in zip(units, leaves, strict=True)])

    def suffixes(self, tree: Any) -> list[str]:
        """Each leaf draws for itself."""
        return [f".{name}" for name in leaf_names(tree)]

    def init(self, unit: jax.Array, noise: Noise) -> Factors:
        """Identities."""
        m, n = unit.shape
        return {"left": self.first(m, n, unit.dtype), "right": self.first(n, m, unit.dtype)}

    def first(self, size: int, other: int, dtype: Any) -> jax.Array:
        """The identity of one side."""
        return jnp.eye(size, dtype=dtype) if self.sides.triangular(size, other) else jnp.ones(size, dtype)

    def scaled(self, factors: Factors, scale: jax.Array) -> Factors:
        """Q times a number, half on either side."""
        root = jnp.sqrt(scale)
        return {side: root * q for side, q in factors.items()}

    def probe(self, noise: Noise, step: Any, tree: Any) -> list[jax.Array | None]:
        """A normal matrix, `probe_matrix.<leaf>`, where it is not integrated out."""
        units = dict(zip(leaf_names(tree), self.units(tree), strict=True))
        needed = {name: x for name, x in units.items() if not self.sides.integrates(*x.shape)}
        drawn = normals(noise, "probe_matrix", step, needed)
        return [drawn.get(name) for name in units]

    def fit(self, factors: Factors, given: Fit) -> Factors:
        """One relative gradient step of both sides, then balanced now and then."""
        old = [factors["left"], factors["right"]]
        a = times(old[1], times(old[0], given.h, 0), 1)
        grams = [gram(a, axis, q.ndim < 2) for axis, q in enumerate(old)]
        expected = integrated(old) if given.v is None else probed(old, given.v)
        left, right = (fit_side(*side, given) for side in zip(old, grams, expected, strict=True))
        ratio = jnp.sqrt(jnp.max(jnp.abs(left)) / jnp.max(jnp.abs(right)))
        ratio = jnp.where(given.uniform("balance_u") < BALANCE_PROBABILITY, ratio, 1)
        return {"left": left / ratio, "right": right * ratio}

    def apply(self, factors: Factors, m: jax.Array) -> jax.Array:
        """Q_l^T Q_l M Q_r^T Q_r."""
        return precondition([factors["left"], factors["right"]], m)


def matrix(leaf: jax.Array) -> jax.Array:
    """A leaf as a matrix."""
    axes, rows, columns = matricized(leaf.shape)
    return leaf.transpose(axes).reshape(rows, columns).astype(jnp.result_type(jnp.float32, leaf))


def leaf_of(x: jax.Array, like: jax.Array) -> jax.Array:
    """The leaf back from its matrix."""
    axes, _, _ = matricized(like.shape)
    back = sorted(range(like.ndim), key=axes.__getitem__)
    return x.reshape([like.shape[i] for i in axes]).transpose(back).astype(like.dtype)


def probed(qs: list[jax.Array], v: jax.Array) -> list[jax.Array]:
    """B B^T and B^T B, or their diagonals."""
    b = divide(qs[1], divide(qs[0], v, 0), 1)
    return [gram(b, axis, q.ndim < 2) for axis, q in enumerate(qs)]


def integrated(qs: list[jax.Array]) -> list[jax.Array]:
    """The expectations of B B^T and B^T B over V, or their diagonals."""
    inverses = [1 / q if q.ndim < 2 else solve_triangular(q, jnp.eye(len(q), dtype=q.dtype)) for q in qs]
    left, right = (x * x if x.ndim < 2 else x.T @ x for x in inverses)
    traces = [jnp.sum(x * x) for x in inverses]
    return [traces[1] * left, traces[0] * right]


def fit_side(q: jax.Array, t1: jax.Array, t2: jax.Array, given: Fit) -> jax.Array:
    """Q <- Q - lr tri(T1 - T2) Q / |T1 + T2|, or / |tri(T1 - T2)|."""
    if q.ndim < 2:
        gradient = t1 - t2
        bound = jnp.max(t1 + t2) if given.second_order else jnp.max(jnp.abs(gradient))
        return q - given.lr / jnp.maximum(bound, 1e-25) * gradient * q
    gradient = jnp.triu(t1 - t2)
    bound = norm_lower_bound(t1 + t2) if given.second_order else longest_bound(gradient)
    return q - (given.lr / jnp.maximum(bound, 1e-25) * gradient) @ q


def longest_bound(a: jax.Array) -> jax.Array:
    """The norm lower bound of a matrix that is not symmetric, from its longest column or row."""
    b = a / jnp.max(jnp.abs(a))
    by_column = jnp.max(jnp.sum(b * b, axis=0)) > jnp.max(jnp.sum(b * b, axis=1))
    return jnp.where(by_column, norm_lower_bound(a), norm_lower_bound(a.T))
