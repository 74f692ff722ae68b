"""PSGD Kron as an optax transformation; the mathematics is on the page of `optbench.optimizers.kron`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optbench.optimizers.kron import RELEASES, Shaping
from optbench.optimizers.kron.jax_factors import (
    Leaf,
    balanced,
    clip_rms,
    damped,
    first_factors,
    fit_factors,
    fit_leaves,
    precondition,
    trust_region,
)
from optbench.optimizers.psgd import BALANCE_PROBABILITY, at, check_ranges, check_release
from optbench.optimizers.psgd.jax import check_static, finished, is_alive, momentum
from optbench.optimizers.psgd.jax import precond_update_prob_schedule as precond_update_prob_schedule
from optbench.protocol import Noise
from optbench.ranges import is_off
from optbench.rules.optax import KeyNoise, probes

Factors = list[list[jax.Array]]
"""The factors of each leaf, one for each axis."""


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
    probability = preconditioner_update_probability
    if probability is None:
        probability = precond_update_prob_schedule(flat_start=250 if release == "0.2.7" else 500)
    whitening = Whitening(
        b1,
        probability,
        Shaping(max_size_triangular, min_ndim_triangular, memory_save_mode),
        momentum_into_precond_update,
        preconditioner_lr,
        preconditioner_init_scale,
        mu_dtype,
        precond_dtype,
        precond_update_precision,
        precond_grads_precision,
        Layers(scanned_layers, lax_map_batch_size if lax_map_scanned_layers else None),
        KeyNoise.seeded(seed) if noise is None else noise,
        release,
    )
    return optax.GradientTransformationExtraArgs(whitening.init, whitening.update)


class Layers(NamedTuple):
    """Which leaves stack layers along their first axis, and how the layers of a stack are run."""

    scanned: Any
    batch: int | None
    """Layers at a time under `lax.map`; None runs all under `vmap`."""

    def stacked(self, tree: Any) -> list[bool]:
        """For each leaf, whether it is a stack."""
        leaves = jax.tree.leaves(tree)
        return [False] * len(leaves) if self.scanned is None else jax.tree.leaves(self.scanned)

    def lift(self, function: Callable, stacked: bool) -> Callable:
        """`function` for one layer, or for each layer of a stack."""
        if not stacked:
            return function
        if self.batch is None:
            return jax.vmap(function)
        batch = self.batch if self.batch > 1 else None
        return lambda *args: jax.lax.map(lambda xs: function(*xs), args, batch_size=batch)


class Whitening(NamedTuple):
    """The options of `scale_by_kron`, and what they do at each step."""

    b1: Any
    probability: Any
    shaping: Shaping
    on_momentum: bool
    lr: Any
    init_scale: Any
    mu_dtype: Any
    dtype: Any
    fit_precision: str | None
    apply_precision: str | None
    layers: Layers
    noise: Noise
    release: str | None

    def init(self, params: Any) -> dict[str, Any]:
        """No momentum yet, scaled identities, two counters at 0."""
        leaves, structure = jax.tree.flatten(params)
        factors = []
        for leaf, stacked in zip(leaves, self.layers.stacked(params), strict=True):
            first = first_factors(leaf.shape[stacked:], self.shaping, self.init_scale, self.dtype)
            factors.append([jnp.repeat(q[None], len(leaf), axis=0) for q in first] if stacked else first)
        return {
            "count": jnp.zeros((), jnp.int32),
            "mu": None if is_off(self.b1) else optax.tree.zeros_like(params, dtype=self.mu_dtype),
            "Qs_preconditioners": structure.unflatten(factors),
            "update_counter": jnp.zeros((), jnp.int32),
        }

    def update(self, updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[Any, dict[str, Any]]:
        """The momentum, the fit where one is due, and the preconditioned momentum."""
        grads, t = updates, state["count"] + 1
        mu, direction = momentum(grads, state["mu"], self.b1, False, t)
        due, counter = self.due(state, t)
        structure = jax.tree.structure(grads)
        factors = structure.flatten_up_to(state["Qs_preconditioners"])

        def fit(factors: Factors) -> Factors:
            return self.fitted(factors, direction if self.on_momentum else grads, state["count"])

        with jax.default_matmul_precision(self.fit_precision):
            factors = fit(factors) if due is True else jax.lax.cond(due, fit, lambda same: same, factors)
        with jax.default_matmul_precision(self.apply_precision):
            updates = self.applied(factors, direction)
        if self.mu_dtype is not None and mu is not None:
            mu = optax.tree.cast(mu, self.mu_dtype)
        new = {
            "count": t,
            "mu": mu,
            "Qs_preconditioners": structure.unflatten(factors),
            "update_counter": counter,
        }
        return updates, new

    def due(self, state: Any, t: jax.Array) -> tuple[Any, jax.Array]:
        """Whether this step fits the factors (True where no step does not), and the counter after it."""
        counter = state["update_counter"]
        if isinstance(self.probability, int | float) and self.probability == 1:
            return True, counter * 0
        rate = at(self.probability, t)
        if self.release == "0.2.7":
            return self.noise.uniform("update_u", state["count"], jnp.float32) < rate, counter * 0
        due = counter + 1 >= 1 / rate
        return due, jnp.where(due, 0, counter + 1)

    def fitted(self, factors: Factors, on: Any, step: jax.Array) -> Factors:
        """The factors of each leaf after one step on a tree; balanced before it now and then."""
        leaves, structure = jax.tree.flatten(on)
        stacked = self.layers.stacked(on)
        balance_now = self.noise.uniform("balance_u", step, jnp.float32) < BALANCE_PROBABILITY
        factors = jax.lax.cond(balance_now, lambda: balanced(factors, stacked, self.release), lambda: factors)
        probe = structure.flatten_up_to(probes(self.noise, step, on))
        given = []
        for qs, g, v in zip(factors, leaves, probe, strict=True):
            # A leaf without gradient is fitted with a step of 0.
            alive = jnp.asarray(True) if self.release else is_alive(g)
            lr = jnp.where(alive, self.lr, 0).astype(g.dtype)
            given.append(Leaf(qs, g if self.release == "0.2.7" else damped(g, v), v, lr))
        single = iter(fit_leaves([leaf for leaf, stack in zip(given, stacked, strict=True) if not stack]))
        return [
            self.layers.lift(lambda qs, g, v, lr=leaf.lr: fit_factors(qs, g, v, lr), True)(*leaf[:3])
            if stack
            else next(single)
            for leaf, stack in zip(given, stacked, strict=True)
        ]

    def applied(self, factors: Factors, direction: Any) -> Any:
        """P times each leaf, its size limited."""
        limit = trust_region if self.release == "0.2.7" else clip_rms
        leaves, structure = jax.tree.flatten(direction)
        rows = zip(factors, leaves, self.layers.stacked(direction), strict=True)
        return structure.unflatten(
            [limit(self.layers.lift(precondition, is_stack)(qs, g)) for qs, g, is_stack in rows]
        )
