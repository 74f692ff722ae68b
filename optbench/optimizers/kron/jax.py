"""PSGD Kron as an optax transformation; the mathematics is on the page of `optbench.optimizers.kron`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import keystr

from optbench.fields import hyper, nearest
from optbench.optimizers.kron import ALONE, FITTING, RELEASES, Kron, Shaping, first_factors
from optbench.optimizers.kron.jax_factors import (
    Leaf,
    balanced,
    clip_rms,
    damped,
    fit_factors,
    fit_leaves,
    precondition,
    trust_region,
    with_squares,
)
from optbench.optimizers.psgd import BALANCE_PROBABILITY, KEY, MASK, SHARED, check_release
from optbench.optimizers.psgd.groups import is_alive
from optbench.optimizers.psgd.jax import finished, first_momentum, momentum, where_due
from optbench.optimizers.psgd.jax import precond_update_prob_schedule as precond_update_prob_schedule
from optbench.protocol import Noise
from optbench.rules.arguments import SCHEDULED, Decorator, at, field, takes
from optbench.rules.optax import KeyNoise, probes
from optbench.rules.optax_transform import check_static, checked

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
        factors, shaping = [], Shaping.of(vars(self.options))
        scale, dtype = self.options.preconditioner_init_scale, self.options.precond_dtype or float
        for leaf, stacked in zip(leaves, self.layers.stacked(params), strict=True):
            first = first_factors(jnp, leaf.shape[stacked:], shaping, scale, dtype=dtype)
            factors.append([jnp.repeat(q[None], len(leaf), axis=0) for q in first] if stacked else first)
        return {
            "count": jnp.zeros((), jnp.int32),
            "mu": first_momentum(params, self.options),
            "Qs_preconditioners": structure.unflatten(factors),
            "update_counter": jnp.zeros((), jnp.int32),
        }

    def update(self, updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[Any, dict[str, Any]]:
        t, options = state["count"] + 1, self.options
        mu, direction = momentum(updates, state["mu"], options, t)
        due, counter = self.due(state, t)
        structure = jax.tree.structure(updates)
        factors = structure.flatten_up_to(state["Qs_preconditioners"])
        on = direction if options.momentum_into_precond_update else updates
        with jax.default_matmul_precision(options.precond_update_precision):
            factors = where_due(due, partial(self.fitted, on, state["count"]), factors)
        with jax.default_matmul_precision(options.precond_grads_precision):
            done = self.applied(factors, direction)
        kept = structure.unflatten(factors)
        return done, {"count": t, "mu": mu, "Qs_preconditioners": kept, "update_counter": counter}

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

    def fitted(self, on: Any, step: jax.Array, factors: Factors) -> Factors:
        """The factors of each leaf after one step on a tree; balanced before it now and then."""
        on = jax.tree.map(with_squares, on)
        leaves, structure = jax.tree.flatten(on)
        stacked, release = self.layers.stacked(on), self.options.release
        balance_now = self.noise.uniform("balance_u", step, jnp.float32) < BALANCE_PROBABILITY
        factors = jax.lax.cond(balance_now, lambda: balanced(factors, stacked, release), lambda: factors)
        probe = structure.flatten_up_to(probes(self.noise, step, on))
        given = []
        for qs, g, v in zip(factors, leaves, probe, strict=True):
            # A leaf without gradient is fitted with a step of 0.
            alive = jnp.asarray(True) if release else is_alive(jnp, g)
            lr = jnp.where(alive, self.options.preconditioner_lr, 0).astype(g.dtype)
            given.append(Leaf(qs, g if release == "0.2.7" else damped(g, v), v, lr))
        single = iter(fit_leaves([leaf for leaf, stack in zip(given, stacked, strict=True) if not stack]))
        return [
            self.layers.lift(partial(fit_factors, lr=leaf.lr))(*leaf[:3]) if stack else next(single)
            for leaf, stack in zip(given, stacked, strict=True)
        ]

    def applied(self, factors: Factors, direction: Any) -> Any:
        limit = trust_region if self.options.release == "0.2.7" else clip_rms

        def one(qs: list[jax.Array], g: jax.Array, is_stack: bool) -> jax.Array:
            return limit(self.layers.lift(precondition, is_stack)(qs, with_squares(g))).astype(g.dtype)

        leaves, structure = jax.tree.flatten(direction)
        rows = zip(factors, leaves, self.layers.stacked(direction), strict=True)
        return structure.unflatten([one(*row) for row in rows])


class Layers(NamedTuple):
    """Which leaves of a tree stack layers along their first axis, and how the layers of a stack are run."""

    scanned: Any
    """Tree of bool, or None."""
    batch: int | None = None
    """Layers at a time under `lax.map`; None runs all under `vmap`."""

    def lift(self, function: Callable, is_stack: bool = True) -> Callable:
        if not is_stack:
            return function
        if self.batch is None:
            return jax.vmap(function)
        batch = self.batch if self.batch > 1 else None
        return lambda *args: jax.lax.map(lambda xs: function(*xs), args, batch_size=batch)

    def stacked(self, tree: Any) -> list[bool]:
        """Whether each leaf stacks layers: the mark at its path; None is False.

        Marks of what the tree has not, as `optax.masked` leaves holes, are passed over.

        Raises:
            ValueError: a leaf has no mark, a mark has no leaf, or a marked leaf has no axis.
        """
        leaves, _ = jax.tree.flatten_with_path(tree)
        if self.scanned is None:
            return [False] * len(leaves)
        places, _ = jax.tree.flatten_with_path(tree, is_leaf=is_hole)
        holes = {path for path, place in places if is_hole(place)}
        given, _ = jax.tree.flatten_with_path(self.scanned, is_leaf=is_hole)
        marks = {path: not is_hole(mark) and bool(mark) for path, mark in given}
        names, marked = ([keystr(path) for path in paths] for paths in (dict(leaves), marks))
        for path, leaf in leaves:
            name = keystr(path)
            if path not in marks:
                raise ValueError(
                    f"kron: scanned_layers says nothing of the parameter {name}. {nearest(name, marked)}"
                )
            if marks[path] and not leaf.shape:
                raise ValueError(
                    f"kron: scanned_layers marks {name}, which has no axis of layers: it is a scalar"
                )
        for path in marks.keys() - dict(leaves).keys():
            if not any(path[:i] in holes for i in range(len(path) + 1)):
                name = keystr(path)
                raise ValueError(
                    f"kron: scanned_layers marks {name}, which is no parameter. {nearest(name, names)}"
                )
        return [marks[path] for path, _ in leaves]


def is_hole(x: Any) -> bool:
    return x is None or isinstance(x, optax.MaskedNode)
