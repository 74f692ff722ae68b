"""Optax transformations as Rules, and the noise that JAX optimizers draw from."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optbench.core import Counts, Noise, Objective, Step


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
        """Standard normal draws, of the shape and dtype of `like`."""
        return jax.random.normal(self._at(name, step), like.shape, like.dtype)

    def uniform(self, name: str, step: Any, dtype: Any) -> jax.Array:
        """One draw from [0, 1)."""
        return jax.random.uniform(self._at(name, step), (), dtype)


class TableNoise(NamedTuple):
    """Draws recorded from an original: name to array [steps, ...]."""

    table: Mapping[str, jax.Array]

    def normal(self, name: str, step: Any, like: Any) -> jax.Array:
        """The recorded draw of this name at this step."""
        return self.table[name][step].astype(like.dtype)

    def uniform(self, name: str, step: Any, dtype: Any) -> jax.Array:
        """The recorded draw of this name at this step."""
        return self.table[name][step].astype(dtype)


def leaf_names(tree: Any) -> list[str]:
    """The path of each leaf, in leaf order: 'W1', or 'block.0.kernel'."""
    paths, _ = jax.tree.flatten_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]


def probes(noise: Noise, step: Any, tree: Any) -> Any:
    """A standard normal draw for each leaf, named `probe.<leaf>`."""
    leaves, structure = jax.tree.flatten(tree)
    drawn = [
        noise.normal(f"probe.{name}", step, leaf) for name, leaf in zip(leaf_names(tree), leaves, strict=True)
    ]
    return structure.unflatten(drawn)


class OptaxRule:
    """An optax transformation that needs one gradient a step."""

    def __init__(self, transform: optax.GradientTransformation):
        self.transform = optax.with_extra_args_support(transform)

    def init(self, params: Any) -> Any:
        """The transformation's state."""
        return self.transform.init(params)

    def step(self, params: Any, state: Any, objective: Objective, t: Any) -> Step:
        """One gradient, one update."""
        loss, grads = objective.value_and_grad(params)
        updates, state = self.transform.update(grads, state, params)
        return Step(optax.apply_updates(params, updates), state, loss, Counts(gradients=1))

    def evaluated(self, params: Any, state: Any) -> Any:
        """The parameters themselves."""
        return params


class CurvatureRule(OptaxRule):
    """An optax transformation that asks for a Hessian-vector product on the steps where one is due.

    The transformation's `update` takes `Hvp`, `vector` and `update_preconditioner`. `due(state, t)` says
    whether this step needs H v, `probe(t, params)` draws v. The product is computed inside a real branch,
    so a step that needs none pays for none.
    """

    def __init__(
        self,
        transform: optax.GradientTransformationExtraArgs,
        due: Callable[[Any, Any], Any],
        probe: Callable[[Any, Any], Any],
    ):
        super().__init__(transform)
        self.due, self.probe = due, probe

    def step(self, params: Any, state: Any, objective: Objective, t: Any) -> Step:
        """One gradient, and one Hessian-vector product where due."""
        due = jnp.asarray(self.due(state, t))

        def curved(_: None) -> tuple[Any, Any, Any, Any]:
            vector = self.probe(t, params)
            return *objective.value_grad_hvp(params, vector), vector

        def plain(_: None) -> tuple[Any, Any, Any, Any]:
            zeros = jax.tree.map(jnp.zeros_like, params)
            return *objective.value_and_grad(params), zeros, zeros

        loss, grads, hvp, vector = jax.lax.cond(due, curved, plain, None)
        updates, state = self.transform.update(
            grads, state, params, Hvp=hvp, vector=vector, update_preconditioner=due
        )
        return Step(
            optax.apply_updates(params, updates), state, loss, Counts(gradients=1, hvps=due.astype(jnp.int32))
        )
