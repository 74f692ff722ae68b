"""PSGD Affine as an optax transformation; the mathematics is on the page of `optbench.optimizers.affine`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.scipy.linalg import solve_triangular

from optbench.optimizers.affine import Sides, matricized
from optbench.optimizers.kron.jax_factors import divide, gram, norm_lower_bound, precondition, times
from optbench.optimizers.psgd import BALANCE_PROBABILITY, check_ranges, check_release
from optbench.optimizers.psgd.jax import Factors, Fit, Options, check_static, finished, scale_by_group
from optbench.protocol import Noise, normals
from optbench.rules.optax import leaf_names

RELEASES = ("0.2.9",)


def affine(
    learning_rate: float | Callable[[Any], Any] = 0.01,
    preconditioner_update_probability: float = 1.0,
    b1: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    mask: Any | Callable[[Any], Any] | None = None,
    max_size_triangular: int = 4096,
    max_skew_triangular: float = 128,
    precond_lr: float | Callable[[Any], Any] = 0.1,
    precond_init_scale: float | None = None,
    update_global_norm_clip: float | None = None,
    step_normalizer_order: str = "2nd",
    seed: int | jax.Array | None = None,
    mu_dtype: Any = None,
    precision: str | None = "tensorfloat32",
    *,
    noise: Noise | None = None,
    upstream: bool | str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """PSGD Affine: each leaf as a matrix, with a triangular or diagonal factor on either side.

    `update(grads, state, params)` whitens; `update(..., Hvp=, vector=, update_preconditioner=)` fits the
    preconditioner to a Hessian-vector product, such as `hessian_helper` gives.

    Args:
        learning_rate: step size, or a schedule evaluated at a count from 0.
        preconditioner_update_probability: in whitening, the probability of a fit; steps 1 and 2 always fit.
        b1: decay of the momentum; 0 keeps no momentum.
        nesterov: look ahead along the momentum.
        weight_decay: decoupled decay; needs `params` in `update` when above 0.
        mask: tree of bool, or a callable on the parameters, that restricts the decay.
        max_size_triangular: a side of more entries than this is diagonal.
        max_skew_triangular: a side of more than this many times the other's entries is diagonal.
        precond_lr: step size of the fit, or a schedule of the step from 1.
        precond_init_scale: scale of the first Q; None takes it from the first gradient that is not zero.
        update_global_norm_clip: largest l2 norm of the whole update before decay and learning rate.
        step_normalizer_order: '2nd' or '1st', what the fit's steps are divided by.
        seed: an integer or a JAX key of the default noise; give two optimizers different ones.
        mu_dtype: dtype in which the momentum is kept; None is the parameter's.
        precision: matmul precision.
        noise: where draws come from; None draws from `seed`.
        upstream: True brings the faults of psgd-jax 0.2.9 back: an all-zero first gradient makes the state
            non-finite for ever, and a first Hessian step without a fit loses the first scale.

    Raises:
        ValueError: a hyperparameter is out of its range (a clip of 0 included), or `update` gets `Hvp`
            without `vector` or `update_preconditioner`.
    """
    transform = scale_by_affine(
        preconditioner_update_probability,
        b1,
        nesterov,
        max_size_triangular,
        max_skew_triangular,
        precond_lr,
        precond_init_scale,
        update_global_norm_clip,
        step_normalizer_order,
        seed,
        mu_dtype,
        precision,
        noise=noise,
        upstream=upstream,
    )
    return finished(transform, "affine", learning_rate, weight_decay, mask)


def scale_by_affine(
    preconditioner_update_probability: float = 1.0,
    b1: float = 0.9,
    nesterov: bool = False,
    max_size_triangular: int = 4096,
    max_skew_triangular: float = 128,
    precond_lr: float | Callable[[Any], Any] = 0.1,
    precond_init_scale: float | None = None,
    update_global_norm_clip: float | None = None,
    step_normalizer_order: str = "2nd",
    seed: int | jax.Array | None = None,
    mu_dtype: Any = None,
    precision: str | None = "tensorfloat32",
    *,
    noise: Noise | None = None,
    upstream: bool | str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """`affine` without learning rate and weight decay; the arguments are those of `affine`."""
    limits = {"max_size_triangular": max_size_triangular, "max_skew_triangular": max_skew_triangular}
    check_static("affine", **limits)
    check_ranges("affine", limits)
    options = Options(
        preconditioner_update_probability,
        b1,
        nesterov,
        precond_lr,
        precond_init_scale,
        update_global_norm_clip,
        step_normalizer_order,
        mu_dtype,
        precision,
    )
    release = check_release("affine", upstream, RELEASES)
    return scale_by_group(
        "affine", Sided(Sides(max_size_triangular, max_skew_triangular)), options, noise, seed, release
    )


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
