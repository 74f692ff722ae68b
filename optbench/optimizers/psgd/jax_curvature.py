"""What Hessian mode in JAX needs beside the optimizers: making the product, and the optimizer as a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.optimizers.psgd import FORCED_FITS
from optbench.protocol import Noise
from optbench.ranges import require
from optbench.rules.optax import CurvatureRule, probes


def hessian_helper(key: jax.Array, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any, Any, jax.Array]:
    """Loss, gradient, and on some steps a Hessian-vector product, for `update` of xmat, lra and affine.

        hessian_helper(key, train_step, loss_fn, params, loss_fn_extra_args=(), has_aux=False,
                       preconditioner_update_probability=1.0)
        hessian_helper(key, loss_fn, params, ...)        as in psgd-jax 0.1.0 and in its README

    Args:
        key: a JAX key; a new one for each step.
        train_step: the number of this step; below 2 the product is always made. Without it, it is made with
            the given probability on every step.
        loss_fn: takes the parameters and the extra arguments; returns the loss, or (loss, aux).
        params: the parameters.
        loss_fn_extra_args: what `loss_fn` gets after the parameters.
        has_aux: whether `loss_fn` returns something beside the loss.
        preconditioner_update_probability: how often the product is made.

    Returns:
        What `loss_fn` returned, the gradient, H v, v ~ N(0, I), and whether to update the preconditioner; on
        steps without, H v and v are zeros and cost one gradient only.
    """
    with_step = "train_step" in kwargs or (bool(args) and not callable(args[0]))
    return helped(key, *args, **kwargs) if with_step else helped(key, None, *args, **kwargs)


def helped(
    key: jax.Array,
    train_step: Any,
    loss_fn: Callable[..., Any],
    params: Any,
    loss_fn_extra_args: Iterable[Any] = (),
    has_aux: bool = False,
    preconditioner_update_probability: Any = 1.0,
) -> tuple[Any, Any, Any, Any, jax.Array]:
    require("hessian_helper", "(0, 1]", preconditioner_update_probability=preconditioner_update_probability)
    vector_key, uniform_key = jax.random.split(key)
    due = jax.random.uniform(uniform_key) < preconditioner_update_probability
    if train_step is not None:
        due = due | (jnp.asarray(train_step) < FORCED_FITS)

    def loss_and_gradient(at: Any) -> tuple[Any, Any]:
        return jax.value_and_grad(loss_fn, has_aux=has_aux)(at, *loss_fn_extra_args)

    def curved() -> tuple[Any, Any, Any, Any]:
        vector = optax.tree.random_like(vector_key, params, jax.random.normal)

        def gradient_beside(at: Any) -> tuple[Any, Any]:
            out, grads = loss_and_gradient(at)
            return grads, out

        # Forward over reverse: one pass gives the loss, the gradient and its derivative along the vector.
        grads, hvp, out = jax.jvp(gradient_beside, (params,), (vector,), has_aux=True)
        return out, grads, hvp, vector

    def plain() -> tuple[Any, Any, Any, Any]:
        zeros = optax.tree.zeros_like(params)
        return *loss_and_gradient(params), zeros, zeros

    return *jax.lax.cond(due, curved, plain), due


def hessian_rule(
    transform: optax.GradientTransformationExtraArgs, noise: Noise, probability: float
) -> CurvatureRule:
    """The transformation fitted to Hessian-vector products; the first step always has one."""

    def due(state: Any, t: Any) -> jax.Array:
        if probability == 1:
            return jnp.asarray(True)
        return (noise.uniform("update_u", t, jnp.float32) < probability) | (t == 0)

    return CurvatureRule(transform, due, lambda t, params: probes(noise, t, params))
