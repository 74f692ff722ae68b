"""PSGD Kron as an optax transformation; the mathematics is on the page of `optbench.optimizers.kron`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.core import Noise
from optbench.optimizers.kron import DAMPING, RELEASES, RMS_CLIP, Shaping, factor_kinds
from optbench.optimizers.kron.jax_factors import fit_factors, precondition
from optbench.optimizers.psgd import BALANCE_PROBABILITY, at, check_ranges, check_release
from optbench.optimizers.psgd.jax import check_static, finished, is_alive, momentum
from optbench.optimizers.psgd.jax import precond_update_prob_schedule as precond_update_prob_schedule
from optbench.ranges import is_off
from optbench.rules.optax import KeyNoise, probes


def kron(
    learning_rate: float | Callable[[Any], Any] = 0.001,
    b1: float = 0.9,
    weight_decay: float = 0.0,
    weight_decay_mask: Any | Callable[[Any], Any] | None = None,
    preconditioner_update_probability: float | Callable[[Any], Any] | None = None,
    max_size_triangular: int = 8192,
    min_ndim_triangular: int = 2,
    memory_save_mode: str | None = None,
    momentum_into_precond_update: bool = True,
    preconditioner_lr: float = 0.1,
    preconditioner_init_scale: float = 1.0,
    mu_dtype: Any = None,
    precond_dtype: Any = None,
    precond_update_precision: str | None = "tensorfloat32",
    precond_grads_precision: str | None = None,
    scanned_layers: Any = None,
    lax_map_scanned_layers: bool = False,
    lax_map_batch_size: int = 8,
    *,
    noise: Noise | None = None,
    seed: int | jax.Array = 5318008,
    upstream: bool | str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """PSGD Kron: whitening by a Kronecker-factored preconditioner fitted on the group of triangular matrices.

    Args:
        learning_rate: step size, or a schedule evaluated at a count from 0.
        b1: decay of the momentum; 0 keeps no momentum.
        weight_decay: decoupled decay; needs `params` in `update` when above 0.
        weight_decay_mask: tree of bool, or a callable on the parameters, that restricts the decay.
        preconditioner_update_probability: rate of preconditioner updates, or a schedule of the step from 1;
            None is `precond_update_prob_schedule()`.
        max_size_triangular: a dimension larger than this gets a diagonal factor.
        min_ndim_triangular: a tensor with fewer dimensions than this gets diagonal factors only.
        memory_save_mode: None, 'one_diag' (the largest dimension is diagonal), 'smart_one_diag' (only if it
            is larger than all others) or 'all_diag'.
        momentum_into_precond_update: fit the preconditioner on the momentum, not on the gradient.
        preconditioner_lr: step size of the preconditioner's fit.
        preconditioner_init_scale: scale of the first preconditioner.
        mu_dtype: dtype in which the momentum is kept; None is the parameter's.
        precond_dtype: dtype in which the factors are kept; None is the default float.
        precond_update_precision: matmul precision of the fit.
        precond_grads_precision: matmul precision of applying the preconditioner.
        scanned_layers: tree of bool; True marks a leaf whose first axis stacks layers.
        lax_map_scanned_layers: run the layers through `lax.map` instead of `vmap`.
        lax_map_batch_size: layers at a time under `lax.map`.
        noise: where draws come from; None draws from `seed`.
        seed: an integer or a JAX key of the default noise; give two kron optimizers different ones.
        upstream: True is psgd-jax 0.2.9, which fits a leaf without gradient until it overflows, and balances
            in float32; '0.2.7' its older rule: update drawn at random, no damping, a trust region in place of
            the clip.

    Raises:
        ValueError: a hyperparameter is out of its range.
    """
    transform = scale_by_kron(
        b1,
        preconditioner_update_probability,
        max_size_triangular,
        min_ndim_triangular,
        memory_save_mode,
        momentum_into_precond_update,
        preconditioner_lr,
        preconditioner_init_scale,
        mu_dtype,
        precond_dtype,
        precond_update_precision,
        precond_grads_precision,
        scanned_layers,
        lax_map_scanned_layers,
        lax_map_batch_size,
        noise=noise,
        seed=seed,
        upstream=upstream,
    )
    return finished(transform, "kron", learning_rate, weight_decay, weight_decay_mask)


def scale_by_kron(
    b1: float = 0.9,
    preconditioner_update_probability: float | Callable[[Any], Any] | None = None,
    max_size_triangular: int = 8192,
    min_ndim_triangular: int = 2,
    memory_save_mode: str | None = None,
    momentum_into_precond_update: bool = True,
    preconditioner_lr: float = 0.1,
    preconditioner_init_scale: float = 1.0,
    mu_dtype: Any = None,
    precond_dtype: Any = None,
    precond_update_precision: str | None = "tensorfloat32",
    precond_grads_precision: str | None = None,
    scanned_layers: Any = None,
    lax_map_scanned_layers: bool = False,
    lax_map_batch_size: int = 8,
    *,
    noise: Noise | None = None,
    seed: int | jax.Array = 5318008,
    upstream: bool | str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """`kron` without learning rate and weight decay; the arguments are those of `kron`."""
    shaping = Shaping(max_size_triangular, min_ndim_triangular, memory_save_mode)
    check_static(
        "kron",
        max_size_triangular=max_size_triangular,
        min_ndim_triangular=min_ndim_triangular,
        lax_map_batch_size=lax_map_batch_size,
    )
    check_ranges(
        "kron",
        {
            "b1": b1,
            "preconditioner_update_probability": preconditioner_update_probability,
            "preconditioner_lr": preconditioner_lr,
            "preconditioner_init_scale": preconditioner_init_scale,
        },
    )
    release = check_release("kron", upstream, RELEASES)
    older = release == "0.2.7"
    probability = preconditioner_update_probability
    if probability is None:
        probability = precond_update_prob_schedule(flat_start=250 if older else 500)
    source: Noise = KeyNoise.seeded(seed) if noise is None else noise

    def stacks(tree: Any) -> list[bool]:
        if scanned_layers is None:
            return [False] * len(jax.tree.leaves(tree))
        return jax.tree.leaves(scanned_layers)

    def lift(function: Callable, stacked: bool) -> Callable:
        """`function` for one layer, or for each layer of a stack."""
        if not stacked:
            return function
        if not lax_map_scanned_layers:
            return jax.vmap(function)
        batch = lax_map_batch_size if lax_map_batch_size > 1 else None
        return lambda *args: jax.lax.map(lambda xs: function(*xs), args, batch_size=batch)

    def init(params: Any) -> dict[str, Any]:
        factors = []
        leaves, structure = jax.tree.flatten(params)
        for leaf, stacked in zip(leaves, stacks(params), strict=True):
            first = first_factors(leaf.shape[stacked:], shaping, preconditioner_init_scale, precond_dtype)
            if stacked:
                first = [jnp.repeat(q[None], leaf.shape[0], axis=0) for q in first]
            factors.append(first)
        return {
            "count": jnp.zeros((), jnp.int32),
            "mu": None if is_off(b1) else optax.tree.zeros_like(params, dtype=mu_dtype),
            "Qs_preconditioners": structure.unflatten(factors),
            "update_counter": jnp.zeros((), jnp.int32),
        }

    def update(updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[Any, dict[str, Any]]:
        grads = updates
        t = state["count"] + 1
        mu, direction = momentum(grads, state["mu"], b1, False, t)
        counter = state["update_counter"] + 1
        rate = at(probability, t)
        due = source.uniform("update_u", state["count"], jnp.float32) < rate if older else counter >= 1 / rate
        fitted = direction if momentum_into_precond_update else grads
        leaves, structure = jax.tree.flatten(fitted)
        stacked = stacks(fitted)
        factors = structure.flatten_up_to(state["Qs_preconditioners"])

        def fit(factors: list[list[jax.Array]]) -> list[list[jax.Array]]:
            step = state["count"]
            balance_now = source.uniform("balance_u", step, jnp.float32) < BALANCE_PROBABILITY
            factors = jax.lax.cond(balance_now, lambda: balanced(factors, stacked, release), lambda: factors)
            probe = structure.flatten_up_to(probes(source, step, fitted))
            fitted_factors = []
            for q, g, v, is_stack in zip(factors, leaves, probe, stacked, strict=True):
                # A leaf without gradient is fitted with a step of 0.
                alive = jnp.asarray(True) if release else is_alive(g)
                lr = jnp.where(alive, preconditioner_lr, 0).astype(g.dtype)
                one = lift(lambda q, g, v, lr=lr: fit_factors(q, g, v, lr), is_stack)
                fitted_factors.append(one(q, g if older else damped(g, v), v))
            return fitted_factors

        with jax.default_matmul_precision(precond_update_precision):
            factors = jax.lax.cond(due, fit, lambda factors: factors, factors)
        limit = trust_region if older else clip_rms
        with jax.default_matmul_precision(precond_grads_precision):
            updates = [
                limit(lift(precondition, is_stack)(q, g))
                for q, g, is_stack in zip(factors, jax.tree.leaves(direction), stacked, strict=True)
            ]
        if mu_dtype is not None and mu is not None:
            mu = optax.tree.cast(mu, mu_dtype)
        new_state = {
            "count": t,
            "mu": mu,
            "Qs_preconditioners": structure.unflatten(factors),
            "update_counter": counter * 0 if older else jnp.where(due, 0, counter),
        }
        return structure.unflatten(updates), new_state

    return optax.GradientTransformationExtraArgs(init, update)


def first_factors(shape: tuple[int, ...], shaping: Shaping, scale: float, dtype: Any) -> list[jax.Array]:
    """Scaled identities, one factor for each axis; a scalar has one 0-d factor."""
    if not shape:
        return [jnp.asarray(scale, dtype=dtype or float)]
    each = scale ** (1 / len(shape))
    return [
        each * (jnp.ones(n, dtype=dtype) if kind == "diagonal" else jnp.eye(n, dtype=dtype))
        for n, kind in zip(shape, factor_kinds(shape, shaping), strict=True)
    ]


def balanced(
    factors: list[list[jax.Array]], stacked: list[bool], release: str | None
) -> list[list[jax.Array]]:
    """Give the factors of each leaf the same largest entry; psgd-jax takes norms in float32 in every dtype."""

    def one(qs: list[jax.Array]) -> list[jax.Array]:
        dtype = jnp.float32 if release else jnp.result_type(jnp.float32, *qs)
        norms = [jnp.max(jnp.abs(q)).astype(dtype) for q in qs]
        mean = jnp.prod(jnp.stack(norms)) ** (1 / len(qs))
        return [q * (mean / norm).astype(q.dtype) for q, norm in zip(qs, norms, strict=True)]

    return [
        qs if len(qs) == 1 else jax.vmap(one)(qs) if is_stack else one(qs)
        for qs, is_stack in zip(factors, stacked, strict=True)
    ]


def damped(g: jax.Array, v: jax.Array) -> jax.Array:
    """G + sqrt(eps) mean|G| V, over the whole leaf."""
    return g + jnp.asarray(DAMPING, g.dtype) * jnp.mean(jnp.abs(g)) * v


def clip_rms(u: jax.Array) -> jax.Array:
    """Scale the whole leaf so that its root mean square is at most 1.1."""
    return u / jnp.maximum(1.0, jnp.sqrt(jnp.mean(u * u)) / RMS_CLIP)


def trust_region(u: jax.Array) -> jax.Array:
    """Bend each entry towards +-2, as psgd-jax 0.2.7 does in place of the clip."""
    y = u / 1.5
    return jnp.clip(1.5 * (0.1 * jnp.sign(y) * jnp.log1p(jnp.abs(y)) + 0.9 * jnp.tanh(y)), -2, 2)
