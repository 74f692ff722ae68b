"""PSGD Kron as an optax transformation; the mathematics is on the page of `optbench.optimizers.kron`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optbench.fields import hyper
from optbench.optimizers.kron import ALONE, FITTING, RELEASES, Kron, Shaping, jax_factors
from optbench.optimizers.kron.jax_layers import Layers
from optbench.optimizers.psgd import BALANCE_PROBABILITY, KEY, MASK, SHARED, check_release
from optbench.optimizers.psgd.groups import is_alive
from optbench.optimizers.psgd.jax import check_static, finished, first_momentum, momentum, where_due
from optbench.optimizers.psgd.jax import precond_update_prob_schedule as precond_update_prob_schedule
from optbench.protocol import Noise
from optbench.rules.arguments import SCHEDULED, Decorator, at, field, takes
from optbench.rules.optax import KeyNoise, probes
from optbench.rules.optax_transform import checked

Factors = list[list[jax.Array]]
"""The factors of each leaf, one for each axis."""


def factory(first: str = "", decay: str = "") -> Decorator:
    return takes(
        Kron,
        f"{first} b1 {decay} {FITTING} preconditioner_lr preconditioner_init_scale mu_dtype precond_dtype "
        "precond_update_precision precond_grads_precision scanned_layers lax_map_scanned_layers lax_map_batch_size "
        "* noise seed upstream",
        learning_rate=field(Kron, "learning_rate", doc=SCHEDULED, bounds=None),
        weight_decay_mask=MASK,
        precond_update_precision=hyper("tensorfloat32", "matmul precision of the fit"),
        precond_grads_precision=hyper(None, "matmul precision of applying the preconditioner"),
        scanned_layers=hyper(None, "tree of bool; True marks a leaf whose first axis stacks layers"),
        lax_map_scanned_layers=hyper(False, "run the layers through `lax.map` instead of `vmap`"),
        lax_map_batch_size=hyper(8, "layers at a time under `lax.map`"),
        seed=hyper(5318008, KEY),
        **SHARED,
        **ALONE,
    )


@factory("learning_rate", "weight_decay weight_decay_mask")
def kron(
    learning_rate: Any, weight_decay: Any, weight_decay_mask: Any, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """PSGD Kron: whitening by a Kronecker-factored preconditioner fitted on the group of triangular matrices.

    The update probability may be a schedule of the step from 1; None is `precond_update_prob_schedule()`. Weight
    decay needs `params` in `update`.
    """
    return finished(scale_by_kron(**options), learning_rate, weight_decay, weight_decay_mask)


@factory()
def scale_by_kron(
    scanned_layers: Any,
    lax_map_scanned_layers: bool,
    lax_map_batch_size: int,
    noise: Noise | None,
    seed: int | jax.Array,
    upstream: bool | str | None,
    **given: Any,
) -> optax.GradientTransformationExtraArgs:
    """`kron` without learning rate and weight decay."""
    options = SimpleNamespace(**given, release=check_release("kron", upstream, RELEASES))
    check_static(
        "kron",
        max_size_triangular=options.max_size_triangular,
        min_ndim_triangular=options.min_ndim_triangular,
        lax_map_batch_size=lax_map_batch_size,
    )
    layers = Layers(scanned_layers, lax_map_batch_size if lax_map_scanned_layers else None)
    whitening = Whitening(options, layers, KeyNoise.seeded(seed) if noise is None else noise)
    return checked("kron", optax.GradientTransformationExtraArgs(whitening.init, whitening.update))


class Whitening(NamedTuple):
    """What `scale_by_kron` does at each step."""

    options: Any
    """The other arguments of `scale_by_kron` by name, and the `release` whose numerics are asked for."""
    layers: Layers
    noise: Noise

    def init(self, params: Any) -> dict[str, Any]:
        leaves, structure = jax.tree.flatten(params)
        factors, scale = [], self.options.preconditioner_init_scale
        shaping = Shaping.of(vars(self.options))
        for leaf, stacked in zip(leaves, self.layers.stacked(params), strict=True):
            first = jax_factors.first_factors(
                leaf.shape[stacked:], shaping, scale, self.options.precond_dtype
            )
            factors.append([jnp.repeat(q[None], len(leaf), axis=0) for q in first] if stacked else first)
        return {
            "count": jnp.zeros((), jnp.int32),
            "mu": first_momentum(params, self.options),
            "Qs_preconditioners": structure.unflatten(factors),
            "update_counter": jnp.zeros((), jnp.int32),
        }

    def update(self, updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[Any, dict[str, Any]]:
        grads, t, options = updates, state["count"] + 1, self.options
        mu, direction = momentum(grads, state["mu"], options, t)
        due, counter = self.due(state, t)
        structure = jax.tree.structure(grads)
        factors = structure.flatten_up_to(state["Qs_preconditioners"])

        def fit(factors: Factors) -> Factors:
            on = direction if options.momentum_into_precond_update else grads
            return self.fitted(factors, on, state["count"])

        with jax.default_matmul_precision(options.precond_update_precision):
            factors = where_due(due, fit, factors)
        with jax.default_matmul_precision(options.precond_grads_precision):
            updates = self.applied(factors, direction)
        new = {
            "count": t,
            "mu": mu,
            "Qs_preconditioners": structure.unflatten(factors),
            "update_counter": counter,
        }
        return updates, new

    def due(self, state: Any, t: jax.Array) -> tuple[Any, jax.Array]:
        """Whether this step fits the factors (True where no step does not), and the counter after it."""
        counter, older = state["update_counter"], self.options.release == "0.2.7"
        probability = self.options.preconditioner_update_probability
        if isinstance(probability, int | float) and probability == 1:
            return True, counter * 0
        if probability is None:
            probability = precond_update_prob_schedule(flat_start=250 if older else 500)
        rate = at(probability, t)
        if older:
            return self.noise.uniform("update_u", state["count"], jnp.float32) < rate, counter * 0
        due = counter + 1 >= 1 / rate
        return due, jnp.where(due, 0, counter + 1)

    def fitted(self, factors: Factors, on: Any, step: jax.Array) -> Factors:
        """The factors of each leaf after one step on a tree; balanced before it now and then."""
        on = jax.tree.map(jax_factors.with_squares, on)
        leaves, structure = jax.tree.flatten(on)
        stacked, release = self.layers.stacked(on), self.options.release
        balance_now = self.noise.uniform("balance_u", step, jnp.float32) < BALANCE_PROBABILITY
        factors = jax.lax.cond(
            balance_now, lambda: jax_factors.balanced(factors, stacked, release), lambda: factors
        )
        probe = structure.flatten_up_to(probes(self.noise, step, on))
        given = []
        for qs, g, v in zip(factors, leaves, probe, strict=True):
            # A leaf without gradient is fitted with a step of 0.
            alive = jnp.asarray(True) if release else is_alive(jnp, g)
            lr = jnp.where(alive, self.options.preconditioner_lr, 0).astype(g.dtype)
            given.append(jax_factors.Leaf(qs, g if release == "0.2.7" else jax_factors.damped(g, v), v, lr))
        single = iter(
            jax_factors.fit_leaves([leaf for leaf, stack in zip(given, stacked, strict=True) if not stack])
        )
        return [
            self.layers.lift(lambda qs, g, v, lr=leaf.lr: jax_factors.fit_factors(qs, g, v, lr), True)(
                *leaf[:3]
            )
            if stack
            else next(single)
            for leaf, stack in zip(given, stacked, strict=True)
        ]

    def applied(self, factors: Factors, direction: Any) -> Any:
        limit = jax_factors.trust_region if self.options.release == "0.2.7" else jax_factors.clip_rms
        leaves, structure = jax.tree.flatten(direction)
        rows = zip(factors, leaves, self.layers.stacked(direction), strict=True)
        return structure.unflatten(
            [
                limit(
                    self.layers.lift(jax_factors.precondition, is_stack)(qs, jax_factors.with_squares(g))
                ).astype(g.dtype)
                for qs, g, is_stack in rows
            ]
        )
