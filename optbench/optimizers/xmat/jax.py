"""PSGD XMat as an optax transformation; the mathematics is on the page of `optbench.optimizers.xmat`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.optimizers.psgd import check_release
from optbench.optimizers.psgd.jax import Factors, Fit, Options, WholeTree, finished, scale_by_group
from optbench.protocol import Noise

RELEASES = ("0.2.9", "0.1.0")


def xmat(
    learning_rate: float | Callable[[Any], Any] = 0.01,
    preconditioner_update_probability: float = 1.0,
    b1: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    mask: Any | Callable[[Any], Any] | None = None,
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
    """PSGD XMat: Q = diag(a) + antidiag(b) on all leaves as one vector.

    `update(grads, state, params)` whitens; `update(..., Hvp=, vector=, update_preconditioner=)` fits the
    preconditioner to a Hessian-vector product, such as `hessian_helper` gives.

    Args:
        learning_rate: step size, or a schedule evaluated at a count from 0.
        preconditioner_update_probability: in whitening, the probability of a fit; steps 1 and 2 always fit.
        b1: decay of the momentum; 0 keeps no momentum.
        nesterov: look ahead along the momentum.
        weight_decay: decoupled decay; needs `params` in `update` when above 0.
        mask: tree of bool, or a callable on the parameters, that restricts the decay.
        precond_lr: step size of the fit, or a schedule of the step from 1.
        precond_init_scale: scale of the first Q; None takes it from the first gradient that is not zero.
        update_global_norm_clip: largest l2 norm of the whole update before decay and learning rate.
        step_normalizer_order: '2nd' or '1st', what the fit's step is divided by.
        seed: an integer or a JAX key of the default noise; give two optimizers different ones.
        mu_dtype: dtype in which the momentum is kept; None is the parameter's.
        precision: matmul precision.
        noise: where draws come from; None draws from `seed`.
        upstream: True or a release of psgd-jax ('0.2.9', '0.1.0') brings its faults back: an all-zero first
            gradient makes the state non-finite for ever, and a first Hessian step without a fit loses the
            first scale.

    Raises:
        ValueError: a hyperparameter is out of its range (a clip of 0 included), or `update` gets `Hvp`
            without `vector` or `update_preconditioner`.
    """
    transform = scale_by_xmat(
        preconditioner_update_probability,
        b1,
        nesterov,
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
    return finished(transform, "xmat", learning_rate, weight_decay, mask)


def scale_by_xmat(
    preconditioner_update_probability: float = 1.0,
    b1: float = 0.9,
    nesterov: bool = False,
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
    """`xmat` without learning rate and weight decay; the arguments are those of `xmat`."""
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
    release = check_release("xmat", upstream, RELEASES)
    return scale_by_group("xmat", XGroup(), options, noise, seed, release)


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
