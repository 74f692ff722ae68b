"""Optax transformations as Rules, and the noise that JAX optimizers draw from."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from optbench.protocol import Counts, Noise, Objective, Step, normals

AtStep = Callable[[Any, Any], Any]
SHARED_BELOW = 65536
"""Numbers of an array below which it shares a draw: one stream for many small arrays costs less than one each."""


class KeyNoise(NamedTuple):
    """Draws that depend on (key, name, step) only, whatever was drawn before."""

    key: jax.Array

    @classmethod
    def seeded(cls, seed: int | jax.Array) -> KeyNoise:
        """From an integer (which may be traced) or a JAX key."""
        if isinstance(seed, jax.Array) and (jnp.issubdtype(seed.dtype, jax.dtypes.prng_key) or seed.ndim):
            return cls(seed)
        return cls(jax.random.key(seed))

    def _at(self, name: str, step: Any) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(self.key, zlib.crc32(name.encode())), step)

    def normal(self, name: str, step: Any, like: Any) -> jax.Array:
        return jax.random.normal(self._at(name, step), like.shape, like.dtype)

    def normals(self, prefix: str, step: Any, likes: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Draws like each array: the small ones of a dtype are pieces of one stream, in the order of their names."""
        small: dict[Any, list[str]] = {}
        for name in sorted(likes):
            if math.prod(likes[name].shape) < SHARED_BELOW:
                small.setdefault(likes[name].dtype, []).append(name)
        drawn = {}
        for dtype, names in small.items():
            sizes = [math.prod(likes[name].shape) for name in names]
            whole = jax.ShapeDtypeStruct((sum(sizes),), dtype)
            stream = self.normal(f"{prefix}.{'+'.join(names)}", step, whole)
            pieces = jnp.split(stream, list(itertools.accumulate(sizes))[:-1])
            for name, piece in zip(names, pieces, strict=True):
                drawn[name] = piece.reshape(likes[name].shape)
        return {
            name: drawn[name] if name in drawn else self.normal(f"{prefix}.{name}", step, like)
            for name, like in likes.items()
        }

    def uniform(self, name: str, step: Any, dtype: Any) -> jax.Array:
        return jax.random.uniform(self._at(name, step), (), dtype)


class TableNoise(NamedTuple):
    """Draws recorded from an original: name to array [steps, ...]."""

    table: Mapping[str, jax.Array]

    def normal(self, name: str, step: Any, like: Any) -> jax.Array:
        return self.table[name][step].astype(like.dtype)

    def uniform(self, name: str, step: Any, dtype: Any) -> jax.Array:
        return self.table[name][step].astype(dtype)


def leaf_names(tree: Any) -> list[str]:
    """The path of each leaf, in leaf order: 'W1', or 'block.0.kernel'."""
    paths, _ = jax.tree.flatten_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    if len(set(names)) == len(names):
        return names
    return [jax.tree_util.keystr(path) for path, _ in paths]  # as {"a.b": x, "a": {"b": y}}


def probes(noise: Noise, step: Any, tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    drawn = normals(noise, "probe", step, dict(zip(leaf_names(tree), leaves, strict=True)))
    return structure.unflatten(drawn.values())


class OptaxRule:
    """An optax transformation that needs one gradient a step."""

    def __init__(self, transform: optax.GradientTransformation):
        self.transform = optax.with_extra_args_support(transform)

    def init(self, params: Any) -> Any:
        return self.transform.init(params)

    def step(self, params: Any, state: Any, objective: Objective, t: Any) -> Step:
        return self.moved(params, state, *objective.value_and_grad(params))

    def moved(self, params: Any, state: Any, loss: Any, grads: Any, **asked: Any) -> Step:
        updates, state = self.transform.update(grads, state, params, **asked)
        return Step(optax.apply_updates(params, updates), state, loss, Counts(gradients=1))

    def evaluated(self, params: Any, state: Any) -> Any:
        return params


class AskingRule(OptaxRule):
    """An optax transformation that may ask for more than a gradient, and say where to evaluate.

    Its `update` is handed the loss (`value`), the gradient (`grad`) and the loss as a function (`value_fn`).
    What a line search of optax asked for on its own is read from its state; what schedule-free's state averages
    is what is evaluated.
    """

    def step(self, params: Any, state: Any, objective: Objective, t: Any) -> Step:
        loss, grads = objective.value_and_grad(params)
        done = self.moved(params, state, loss, grads, value=loss, grad=grads, value_fn=objective.value)
        zooms, halvings = (
            sum(part.info.num_linesearch_steps for part in parts(done.state, kind))
            for kind in (optax.ScaleByZoomLinesearchState, optax.ScaleByBacktrackingLinesearchState)
        )
        return done._replace(counts=Counts(1 + zooms, 0, halvings))

    def evaluated(self, params: Any, state: Any) -> Any:
        for part in parts(state, optax.contrib.ScheduleFreeState):
            return optax.contrib.schedule_free_eval_params(part, params)
        return params


def parts(state: Any, kind: type) -> list[Any]:
    leaves = jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, kind))
    return [part for part in leaves if isinstance(part, kind)]


class CurvatureRule(OptaxRule):
    """An optax transformation that asks for a Hessian-vector product on the steps where one is due.

    The transformation's `update` takes `Hvp`, `vector` and `update_preconditioner`. `due(state, t)` says
    whether this step needs H v, `probe(t, params)` draws v. The product is computed inside a real branch,
    so a step that needs none pays for none.
    """

    def __init__(self, transform: optax.GradientTransformation, due: AtStep, probe: AtStep):
        super().__init__(transform)
        self.due, self.probe = due, probe

    def step(self, params: Any, state: Any, objective: Objective, t: Any) -> Step:
        due = jnp.asarray(self.due(state, t))

        def curved(_: None) -> tuple[Any, Any, Any, Any]:
            vector = self.probe(t, params)
            return *objective.value_grad_hvp(params, vector), vector

        def plain(_: None) -> tuple[Any, Any, Any, Any]:
            zeros = jax.tree.map(jnp.zeros_like, params)
            return *objective.value_and_grad(params), zeros, zeros

        loss, grads, hvp, vector = jax.lax.cond(due, curved, plain, None)
        done = self.moved(params, state, loss, grads, Hvp=hvp, vector=vector, update_preconditioner=due)
        return done._replace(counts=Counts(gradients=1, hvps=due.astype(jnp.int32)))
