"""The frame of XMat, LRA and Affine in JAX, and what their users call beside them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optbench.fields import hyper
from optbench.optimizers import psgd
from optbench.optimizers.psgd import jax_arrays
from optbench.optimizers.psgd.groups import Factors, Fit, Group, first_scale
from optbench.optimizers.psgd.jax_curvature import hessian_helper as hessian_helper
from optbench.protocol import Noise
from optbench.ranges import is_off
from optbench.rules.arguments import SCHEDULED, at, field, takes
from optbench.rules.optax import KeyNoise, leaf_names
from optbench.rules.optax_transform import checked, unmasked, wide

UPDATE = """
`update(grads, state, params)` whitens; `update(..., Hvp=, vector=, update_preconditioner=)` fits the
preconditioner to a Hessian-vector product, such as `hessian_helper` gives. Weight decay needs `params`.

Raises:
    ValueError: a hyperparameter is out of its range (a clip of 0 included), or `update` gets `Hvp`
        without `vector` or `update_preconditioner`.
"""
Factory = Callable[..., optax.GradientTransformationExtraArgs]


class GroupState(NamedTuple):
    """State of `scale_by_group`."""

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    mu: Any
    scaled: jax.Array
    """Whether each unit has its first scale, bool [units]."""
    factors: list[Factors]


def factories(
    declared: type[psgd.GroupOptimizer], group: type[Group], summary: str, name: str = ""
) -> tuple[Factory, Factory]:
    """The factories of a method: with learning rate and weight decay, and `scale_by_...` without.

    They take arguments in the originals' order.
    """
    name = name or declared.name

    def scale(**options: Any) -> optax.GradientTransformationExtraArgs:
        own = {key: options[key] for key in group.own.split()}
        check_static(declared.name, **own)
        return scale_by_group(declared, group(jax_arrays, own), **options)

    def make(learning_rate: Any, weight_decay: Any, mask: Any, **options: Any) -> Any:
        return finished(scale(**options), learning_rate, weight_decay, mask)

    make.__doc__ = f"PSGD {summary}.\n{UPDATE}"
    scale.__doc__ = f"`{name}` without learning rate and weight decay."
    made = []
    for function, called, first, decay in (
        (make, name, "learning_rate", "weight_decay mask"),
        (scale, f"scale_by_{declared.name}", "", ""),
    ):
        function.__name__ = function.__qualname__ = called
        function.__module__ = f"{declared.__module__}.jax"
        arguments = takes(
            declared,
            f"{first} preconditioner_update_probability b1 nesterov {decay} {group.own} precond_lr "
            "precond_init_scale update_global_norm_clip step_normalizer_order seed mu_dtype precision "
            "* noise upstream",
            learning_rate=field(declared, "learning_rate", doc=SCHEDULED, bounds=None),
            mask=psgd.MASK,
            precond_lr=psgd.PRECOND_LR,
            seed=hyper(None, psgd.KEY),
            precision=hyper("tensorfloat32", "matmul precision"),
            upstream=psgd.UPSTREAM,
            **psgd.SHARED,
        )
        made.append(arguments(function))
    return made[0], made[1]


def scale_by_group(
    declared: type[psgd.GroupOptimizer],
    group: Group,
    noise: Noise | None,
    seed: int | jax.Array | None,
    upstream: bool | str | None,
    **given: Any,
) -> optax.GradientTransformationExtraArgs:
    """Precondition with Q^T Q, Q on `group`, in whitening or in Hessian mode."""
    owner, options = declared.name, SimpleNamespace(**given)
    source: Noise = KeyNoise.seeded(36 if seed is None else seed) if noise is None else noise
    fitting = Fitting(group, options, source, psgd.check_release(owner, upstream, declared.releases))

    def init(params: Any) -> GroupState:
        units = group.units(jax.tree.leaves(params))
        return GroupState(
            jnp.zeros((), jnp.int32),
            None if is_off(options.b1) else optax.tree.zeros_like(params, dtype=options.mu_dtype),
            jnp.zeros(len(units), bool),
            [group.init(unit, source) for unit in units],
        )

    def update(
        updates: Any, state: Any, params=None, *, Hvp=None, vector=None, update_preconditioner=None, **_: Any
    ) -> tuple[Any, GroupState]:
        t, (leaves, structure) = state.count + 1, jax.tree.flatten(updates)
        if Hvp is not None and (vector is None or update_preconditioner is None):
            raise ValueError(f"{owner}: update with Hvp also needs vector and update_preconditioner")
        with jax.default_matmul_precision(options.precision):
            if Hvp is None:
                held = fitting.whitened(state, updates)
            else:
                given = (unmasked(updates, Hvp), unmasked(updates, vector))
                held = fitting.curved(state, updates, *given, update_preconditioner)
            mu, direction = momentum(updates, state.mu, options.b1, options.nesterov, t)
            directions = group.units(jax.tree.leaves(direction))
            units = [group.apply(q, m) for q, m in zip(held[1], directions, strict=True)]
        restored = structure.unflatten(group.restore(units, leaves))
        done = clip_global(restored, options.update_global_norm_clip)
        if mu is not None and options.mu_dtype is not None:
            mu = optax.tree.cast(mu, options.mu_dtype)
        return done, GroupState(t, mu, *held)

    return checked(owner, optax.GradientTransformationExtraArgs(init, update))


Held = tuple[jax.Array, list[Factors]]
"""Which units have their first scale, and the factors of each."""


class Fitting(NamedTuple):
    """When the factors of a group are fitted, and how."""

    group: Group
    options: Any
    """The arguments of the factory, by name."""
    source: Noise
    release: str | None

    def whitened(self, state: GroupState, grads: Any) -> Held:
        held, probability = (state.scaled, state.factors), self.options.preconditioner_update_probability

        def fit(held: Held) -> Held:
            likes = dict(zip(leaf_names(grads), jax.tree.leaves(grads), strict=True))
            probe = self.group.probe(self.source, state.count, likes)
            return self.fitted(held, state.count, grads, grads, probe, hessian=False)

        if isinstance(probability, int | float) and probability == 1:
            return fit(held)
        forced = 1 if self.release == "0.1.0" else psgd.FORCED_FITS
        due = self.source.uniform("update_u", state.count, jnp.float32) < probability
        return jax.lax.cond(due | (state.count < forced), fit, lambda held: held, held)

    def curved(self, state: GroupState, grads: Any, hvp: Any, vector: Any, due: Any) -> Held:
        """The factors after this step's Hessian-vector product, where one is due."""

        def fit(held: Held) -> Held:
            vectors = self.group.units(jax.tree.leaves(vector))
            return self.fitted(held, state.count, grads, hvp, vectors, hessian=True)

        return jax.lax.cond(due, fit, lambda held: held, (state.scaled, state.factors))

    def fitted(self, held: Held, step: Any, grads: Any, h_tree: Any, vs: list[Any], hessian: bool) -> Held:
        lr, second_order = at(self.options.precond_lr, step + 1), self.options.step_normalizer_order == "2nd"
        suffixes = [""] if self.group.whole else [f".{name}" for name in leaf_names(grads)]
        rows = zip(self.group.units(jax.tree.leaves(h_tree)), vs, *held, suffixes, strict=True)
        flags, factors = [], []
        for h, v, done, q, suffix in rows:
            alive = jnp.asarray(True) if self.release else is_alive(h)
            due = (step == 0) if self.release else alive & ~done
            scale = first_scale(h, v if hessian else None, self.options.precond_init_scale)
            q = self.group.scaled(q, jnp.where(due, scale, 1).astype(h.dtype))

            def uniform(name: str, suffix: str = suffix) -> jax.Array:
                return self.source.uniform(name + suffix, step, jnp.float32)

            # A dead unit is fitted with a step of 0.
            size = jnp.where(alive, lr, 0).astype(h.dtype)
            factors.append(self.group.fit(q, Fit(h, v, size, second_order, uniform)))
            flags.append(done | due)
        return jnp.stack(flags), factors


def precond_update_prob_schedule(
    max_prob: float = 1.0, min_prob: float = 0.03, decay: float = 0.001, flat_start: float = 500
) -> Callable[[Any], Any]:
    """Anneal the update probability: flat at `max_prob`, then exponential decay to `min_prob`.

    p(n) = min(max(max_prob exp(-decay (n - flat_start)), min_prob), max_prob), n the step from 1. With the
    defaults it is 1 until step 500 and reaches 0.03 at step 4007.
    """

    def schedule(n: Any) -> jax.Array:
        n = jnp.asarray(n, jnp.float32)
        return jnp.minimum(jnp.maximum(max_prob * jnp.exp(-decay * (n - flat_start)), min_prob), max_prob)

    return schedule


def is_alive(h: jax.Array) -> jax.Array:
    """Whether the mean size of h is above the root of the smallest number, so that its squares are numbers.

    A unit without gradient says nothing about its curvature: fitted all the same, Q would grow at each
    step until Q^2 overflows when the gradient comes back.
    """
    return jnp.mean(jnp.abs(h)) > jnp.finfo(h.dtype).tiny ** 0.5


def momentum(grads: Any, mu: Any, b1: Any, nesterov: bool, t: jax.Array) -> tuple[Any, Any]:
    if mu is None:
        return None, grads
    mu = jax.tree.map(lambda g, m: (1 - b1) * g + b1 * m, grads, mu)
    if not nesterov:
        direction = optax.tree.bias_correction(mu, b1, t)
    else:
        ahead = optax.tree.bias_correction(mu, b1, t + 1)
        corrected = optax.tree.bias_correction(grads, b1, t)
        direction = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, ahead, corrected)
    return mu, jax.tree.map(lambda m, g: m.astype(g.dtype), direction, grads)


def clip_global(updates: Any, limit: float | None) -> Any:
    if limit is None:
        return updates
    wider = jax.tree.map(lambda u: u.astype(wide(u.dtype)), updates)
    norm = optax.tree.norm(wider)
    clipped = jax.tree.map(lambda w: jnp.where(norm < limit, w, w / norm.astype(w.dtype) * limit), wider)
    return jax.tree.map(lambda w, u: w.astype(u.dtype), clipped, updates)


def check_static(owner: str, **given: Any) -> None:
    """Raise ValueError for an option that chooses shapes and is an array, which jit may trace."""
    traced = [name for name, value in given.items() if isinstance(value, jax.Array)]
    if traced:
        raise ValueError(
            f"{owner}: {', '.join(traced)} choose shapes and cannot be arrays; "
            f"give optax.inject_hyperparams static_args={tuple(given)}"
        )


def finished(
    transform: optax.GradientTransformationExtraArgs, learning_rate: Any, weight_decay: Any, mask: Any
) -> optax.GradientTransformationExtraArgs:
    chain: list[optax.GradientTransformation] = [transform]
    if not is_off(weight_decay):
        chain.append(optax.add_decayed_weights(weight_decay, mask))
    return optax.chain(*chain, optax.scale_by_learning_rate(learning_rate))
