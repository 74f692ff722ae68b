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
from optbench.optimizers.psgd.groups import Factors, Group, refitted
from optbench.optimizers.psgd.jax_curvature import hessian_helper as hessian_helper
from optbench.protocol import Noise
from optbench.ranges import is_off
from optbench.rules.arguments import SCHEDULED, at, field, takes
from optbench.rules.optax import KeyNoise, leaf_names
from optbench.rules.optax_transform import check_static, checked, unmasked, wide

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

    def made(function: Any, called: str, doc: str, first: str = "", decay: str = "") -> Factory:
        function.__name__ = function.__qualname__ = called
        function.__doc__, function.__module__ = doc, f"{declared.__module__}.jax"
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
        return arguments(function)

    return (
        made(make, name, f"PSGD {summary}.\n{UPDATE}", "learning_rate", "weight_decay mask"),
        made(scale, f"scale_by_{declared.name}", f"`{name}` without learning rate and weight decay."),
    )


def scale_by_group(
    declared: type[psgd.GroupOptimizer],
    group: Group,
    noise: Noise | None,
    seed: int | jax.Array | None,
    upstream: bool | str | None,
    **given: Any,
) -> optax.GradientTransformationExtraArgs:
    """Precondition with Q^T Q, Q on `group`, in whitening or in Hessian mode."""
    owner, release = declared.name, psgd.check_release(declared.name, upstream, declared.releases)
    source: Noise = KeyNoise.seeded(36 if seed is None else seed) if noise is None else noise
    options = SimpleNamespace(**given, upstream=release)

    def init(params: Any) -> GroupState:
        units = group.units(jax.tree.leaves(params))
        return GroupState(
            jnp.zeros((), jnp.int32),
            first_momentum(params, options),
            jnp.zeros(len(units), bool),
            [group.init(unit, source) for unit in units],
        )

    def update(
        updates: Any, state: Any, params=None, *, Hvp=None, vector=None, update_preconditioner=None, **_: Any
    ) -> tuple[Any, GroupState]:
        if Hvp is not None and (vector is None or update_preconditioner is None):
            raise ValueError(f"{owner}: update with Hvp also needs vector and update_preconditioner")
        t, (leaves, structure) = state.count + 1, jax.tree.flatten(updates)
        names = leaf_names(updates)

        def uniform(suffix: str) -> Callable[[str], jax.Array]:
            return lambda name: source.uniform(name + suffix, state.count, jnp.float32)

        def fit(held: Any) -> Any:
            if Hvp is None:
                hs = group.units(leaves)
                vs = group.probe(source, state.count, dict(zip(names, leaves, strict=True)))
            else:
                trees = (unmasked(updates, tree) for tree in (Hvp, vector))
                hs, vs = (group.units(jax.tree.leaves(tree)) for tree in trees)
            uniforms = map(uniform, [""] if group.whole else [f".{name}" for name in names])
            units = zip(*held, hs, vs, uniforms, strict=True)
            made = [
                *refitted(group, options, units, at(options.precond_lr, t), Hvp is None, state.count == 0)
            ]
            return [q for q, _ in made], jnp.stack([scaled for _, scaled in made])

        with jax.default_matmul_precision(options.precision):
            due = whitens(options, source, state.count) if Hvp is None else jnp.asarray(update_preconditioner)
            factors, scaled = where_due(due, fit, (state.factors, state.scaled))
            mu, direction = momentum(updates, state.mu, options, t, options.nesterov)
            directions = group.units(jax.tree.leaves(direction))
            units = [group.apply(q, m) for q, m in zip(factors, directions, strict=True)]
        restored = structure.unflatten(group.restore(units, leaves))
        done = clip_global(restored, options.update_global_norm_clip)
        return done, GroupState(t, mu, scaled, factors)

    return checked(owner, optax.GradientTransformationExtraArgs(init, update))


def whitens(options: Any, noise: Noise, count: jax.Array) -> Any:
    """Whether this step of whitening fits the factors; True where every step does."""
    probability = options.preconditioner_update_probability
    if isinstance(probability, int | float) and probability == 1:
        return True
    forced = 1 if options.upstream == "0.1.0" else psgd.FORCED_FITS
    return (noise.uniform("update_u", count, jnp.float32) < probability) | (count < forced)


def where_due(due: Any, fit: Callable[[Any], Any], held: Any) -> Any:
    """What is held after a fit, where one is due; with no branch where `due` is True."""
    return fit(held) if due is True else jax.lax.cond(due, fit, lambda same: same, held)


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


def first_momentum(params: Any, options: Any) -> Any:
    return None if is_off(options.b1) else optax.tree.zeros_like(params, dtype=options.mu_dtype)


def momentum(grads: Any, mu: Any, options: Any, t: jax.Array, nesterov: bool = False) -> tuple[Any, Any]:
    """The momentum after this step as it is kept, and the direction."""
    if mu is None:
        return None, grads
    b1, mu_dtype = options.b1, options.mu_dtype
    mu = jax.tree.map(lambda g, m: (1 - b1) * g + b1 * m, grads, mu)
    if not nesterov:
        direction = optax.tree.bias_correction(mu, b1, t)
    else:
        ahead = optax.tree.bias_correction(mu, b1, t + 1)
        corrected = optax.tree.bias_correction(grads, b1, t)
        direction = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, ahead, corrected)
    if mu_dtype is not None:
        mu = optax.tree.cast(mu, mu_dtype)
    return mu, jax.tree.map(lambda m, g: m.astype(g.dtype), direction, grads)


def clip_global(updates: Any, limit: float | None) -> Any:
    if limit is None:
        return updates
    wider = jax.tree.map(lambda u: u.astype(wide(u.dtype)), updates)
    norm = optax.tree.norm(wider)
    clipped = jax.tree.map(lambda w: jnp.where(norm < limit, w, w / norm.astype(w.dtype) * limit), wider)
    return jax.tree.map(lambda w, u: w.astype(u.dtype), clipped, updates)


def finished(
    transform: optax.GradientTransformationExtraArgs, learning_rate: Any, weight_decay: Any, mask: Any
) -> optax.GradientTransformationExtraArgs:
    decay = [] if is_off(weight_decay) else [optax.add_decayed_weights(weight_decay, mask)]
    return optax.chain(transform, *decay, optax.scale_by_learning_rate(learning_rate))
