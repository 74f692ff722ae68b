"""The frame of XMat, LRA and Affine in JAX, and what their users call beside them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from optbench.fields import hyper
from optbench.optimizers.psgd import (
    FORCED_FITS,
    KEY,
    MASK,
    PRECOND_LR,
    SHARED,
    UPSTREAM,
    GroupOptimizer,
    check_release,
)
from optbench.optimizers.psgd.jax_curvature import hessian_helper as hessian_helper
from optbench.protocol import Noise
from optbench.ranges import is_off
from optbench.rules.arguments import SCHEDULED, Decorator, at, field, takes
from optbench.rules.optax import KeyNoise, probes
from optbench.rules.optax_transform import unmasked

Factors = dict[str, jax.Array]


class Fit(NamedTuple):
    """What one fit of one unit's factors is given."""

    h: jax.Array
    v: jax.Array | None
    """None where the method integrates the probe out."""
    lr: jax.Array
    second_order: bool
    """Whether the step is divided by a bound of the second derivative, or by that of the gradient."""
    uniform: Callable[[str], jax.Array]
    """A draw from [0, 1) of this unit at this step, by name."""


class Group(Protocol):
    """A matrix group: how a tree splits into units, and how a unit's factors are made, fitted and applied.

    A unit is what has factors of its own: the whole tree as one vector, or one leaf as a matrix.
    """

    def units(self, tree: Any) -> list[jax.Array]:
        """The units of a tree."""
        ...

    def restore(self, units: list[jax.Array], like: Any) -> Any:
        """The tree back from its units, with the dtypes of `like`."""
        ...

    def init(self, unit: jax.Array, noise: Noise) -> Factors:
        """The identity, or near it."""
        ...

    def scaled(self, factors: Factors, scale: jax.Array) -> Factors:
        """Q times a number."""
        ...

    def suffixes(self, tree: Any) -> list[str]:
        """What the name of a unit's own draws ends in: nothing, or '.<leaf>'."""
        ...

    def probe(self, noise: Noise, step: Any, tree: Any) -> list[jax.Array | None]:
        """What whitening draws: a vector for each unit, or None where it needs none."""
        ...

    def fit(self, factors: Factors, given: Fit) -> Factors:
        """One step of the factors, all from the old ones."""
        ...

    def apply(self, factors: Factors, m: jax.Array) -> jax.Array:
        """Q^T Q m."""
        ...


class GroupState(NamedTuple):
    """State of `scale_by_group`."""

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    mu: Any
    scaled: jax.Array
    """Whether each unit has got its first scale, bool [units]."""
    factors: list[Factors]


def group_factory(declared: type[GroupOptimizer], own: str = "", scale_only: bool = False) -> Decorator:
    """What the factories of XMat, LRA and Affine take, in the originals' order; `own` is what one takes alone.

    With `scale_only` no learning rate and no weight decay.
    """
    first, decay = ("", "") if scale_only else ("learning_rate", "weight_decay mask")
    return takes(
        declared,
        f"{first} preconditioner_update_probability b1 nesterov {decay} {own} precond_lr precond_init_scale "
        "update_global_norm_clip step_normalizer_order seed mu_dtype precision * noise upstream",
        learning_rate=field(declared, "learning_rate", doc=SCHEDULED, bounds=None),
        mask=MASK,
        precond_lr=PRECOND_LR,
        seed=hyper(None, KEY),
        precision=hyper("tensorfloat32", "matmul precision"),
        upstream=UPSTREAM,
        **SHARED,
    )


def scale_by_group(
    declared: type[GroupOptimizer],
    group: Group,
    noise: Noise | None,
    seed: int | jax.Array | None,
    upstream: bool | str | None,
    **given: Any,
) -> optax.GradientTransformationExtraArgs:
    """Precondition with Q^T Q, Q on `group`, in whitening or in Hessian mode."""
    owner, options = declared.name, SimpleNamespace(**given)
    source: Noise = KeyNoise.seeded(36 if seed is None else seed) if noise is None else noise
    release = check_release(owner, upstream, declared.releases)
    fitting = Fitting(group, options, source, release)

    def init(params: Any) -> GroupState:
        units = group.units(params)
        return GroupState(
            jnp.zeros((), jnp.int32),
            None if is_off(options.b1) else optax.tree.zeros_like(params, dtype=options.mu_dtype),
            jnp.zeros(len(units), bool),
            [group.init(unit, source) for unit in units],
        )

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        Hvp: Any = None,
        vector: Any = None,
        update_preconditioner: Any = None,
        **_: Any,
    ) -> tuple[Any, GroupState]:
        grads, t = updates, state.count + 1
        if Hvp is not None and (vector is None or update_preconditioner is None):
            raise ValueError(f"{owner}: update with Hvp also needs vector and update_preconditioner")
        with jax.default_matmul_precision(options.precision):
            if Hvp is None:
                held = fitting.whitened(state, grads)
            else:
                given = (unmasked(grads, Hvp), unmasked(grads, vector))
                held = fitting.curved(state, grads, *given, update_preconditioner)
            mu, direction = momentum(grads, state.mu, options.b1, options.nesterov, t)
            units = [group.apply(q, m) for q, m in zip(held[1], group.units(direction), strict=True)]
        done = clip_global(group.restore(units, grads), options.update_global_norm_clip)
        if mu is not None and options.mu_dtype is not None:
            mu = optax.tree.cast(mu, options.mu_dtype)
        return done, GroupState(t, mu, *held)

    return optax.GradientTransformationExtraArgs(init, update)


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
        """The factors after this step's gradient."""
        held, probability = (state.scaled, state.factors), self.options.preconditioner_update_probability

        def fit(held: Held) -> Held:
            probe = self.group.probe(self.source, state.count, grads)
            return self.fitted(held, state.count, grads, grads, probe, hessian=False)

        if isinstance(probability, int | float) and probability == 1:
            return fit(held)
        forced = 1 if self.release == "0.1.0" else FORCED_FITS
        due = self.source.uniform("update_u", state.count, jnp.float32) < probability
        return jax.lax.cond(due | (state.count < forced), fit, lambda held: held, held)

    def curved(self, state: GroupState, grads: Any, hvp: Any, vector: Any, due: Any) -> Held:
        """The factors after this step's Hessian-vector product, where one is due."""

        def fit(held: Held) -> Held:
            vectors = self.group.units(vector)
            return self.fitted(held, state.count, grads, hvp, [*vectors], hessian=True)

        return jax.lax.cond(due, fit, lambda held: held, (state.scaled, state.factors))

    def fitted(
        self, held: Held, step: Any, grads: Any, h_tree: Any, vs: list[jax.Array | None], hessian: bool
    ) -> Held:
        """One fit of every unit."""
        lr, second_order = at(self.options.precond_lr, step + 1), self.options.step_normalizer_order == "2nd"
        rows = zip(self.group.units(h_tree), vs, *held, self.group.suffixes(grads), strict=True)
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
    """Whether the mean size of h is above the cube root of the smallest number.

    A unit without gradient says nothing about its curvature: fitted all the same, Q would grow at each
    step until Q^2 overflows when the gradient comes back.
    """
    return jnp.mean(jnp.abs(h)) > jnp.finfo(h.dtype).tiny ** (1 / 3)


def first_scale(h: jax.Array, v: jax.Array | None, given: Any) -> Any:
    """The scale that makes the first direction Q^T Q h about as long as it should be."""
    if given is not None:
        return given
    return ((h.size if v is None else jnp.sum(v * v)) / jnp.sum(h * h)) ** 0.25


def momentum(grads: Any, mu: Any, b1: Any, nesterov: bool, t: jax.Array) -> tuple[Any, Any]:
    """The new momentum, and the bias-corrected direction it gives."""
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
    """Scale the whole tree so that its l2 norm is at most `limit`."""
    if limit is None:
        return updates
    norm = optax.tree.norm(updates)
    return jax.tree.map(lambda u: jnp.where(norm < limit, u, u / norm.astype(u.dtype) * limit), updates)


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
    """The transformation, then decoupled weight decay, then the learning rate."""
    chain: list[optax.GradientTransformation] = [transform]
    if not is_off(weight_decay):
        chain.append(optax.add_decayed_weights(weight_decay, mask))
    return optax.chain(*chain, optax.scale_by_learning_rate(learning_rate))


class WholeTree:
    """Units of a method that sees all leaves as one vector, in leaf order and in float32 at least."""

    def units(self, tree: Any) -> list[jax.Array]:
        """One vector."""
        leaves = jax.tree.leaves(tree)
        dtype = jnp.result_type(jnp.float32, *leaves)
        return [jnp.concatenate([leaf.ravel().astype(dtype) for leaf in leaves])]

    def restore(self, units: list[jax.Array], like: Any) -> Any:
        """The tree back from the vector."""
        leaves, structure = jax.tree.flatten(like)
        ends = [sum(leaf.size for leaf in leaves[: i + 1]) for i in range(len(leaves))]
        parts = jnp.split(units[0], ends[:-1])
        pairs = zip(parts, leaves, strict=True)
        return structure.unflatten([part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in pairs])

    def suffixes(self, tree: Any) -> list[str]:
        """Draws are the tree's, not a leaf's."""
        return [""]

    def probe(self, noise: Noise, step: Any, tree: Any) -> list[jax.Array | None]:
        """Standard normal draws, `probe.<leaf>` for each leaf."""
        return [*self.units(probes(noise, step, tree))]
