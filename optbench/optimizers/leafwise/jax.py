"""Methods written once, as optax transformations."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optbench.fields import hyper
from optbench.optimizers.adapter import option_names
from optbench.optimizers.leafwise import At, Leafwise, jax_arrays
from optbench.protocol import Noise, Setting, role_of
from optbench.rules.arguments import SCHEDULED, at, field, takes
from optbench.rules.optax import CurvatureRule, KeyNoise, OptaxRule, leaf_names
from optbench.rules.optax_transform import check_static, refuse_complex, unmasked, wide

ROLES = hyper(None, "role of parameters by name, or as `partition` says, where their shape does not tell it")
SEED = hyper(0, "seed of the first draws, an integer or a key")


class LeafwiseState(NamedTuple):
    """State of a method written once."""

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    shared: dict[str, Any]
    leaves: list[dict[str, Any]]
    """Of each parameter, in leaf order."""


@functools.cache
def factory(declared: type[Leafwise]) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """The function that makes the transformation of a method: of the learning rate and its options."""
    names = f"learning_rate * {' '.join(option_names(declared))} roles {'seed' * declared.draws}"

    kinds = {each.name: each.type for each in dataclasses.fields(declared)}
    whole = (name for name in option_names(declared) if kinds[name] in (int, "int", "int | None"))
    static = (*whole, *declared.shapes)

    def make(learning_rate: Any, roles: Any, **options: Any) -> Any:
        noise = KeyNoise.seeded(options.pop("seed", 0))
        check_static(declared.name, **{name: options[name] for name in static})
        return transformation(declared().bind(options), learning_rate, roles, noise)

    make.__name__ = make.__qualname__ = declared.name
    make.__doc__ = f"{declared.__doc__}\n\nUpdates need `params`."
    rate = field(declared, "learning_rate", doc=SCHEDULED, bounds=None)
    return takes(declared, names, learning_rate=rate, roles=ROLES, seed=SEED)(make)


def transformation(
    method: Leafwise, rate: Any, roles: Mapping[str, str] | None, noise: Noise
) -> optax.GradientTransformationExtraArgs:
    """The transformation of a method whose options are bound."""
    tree = dict(roles) if isinstance(roles, Mapping) else roles
    roles = dict(zip(leaf_names(tree), jax.tree.leaves(tree), strict=True))

    def roles_of(params: Any) -> list[str]:
        named = zip(leaf_names(params), jax.tree.leaves(params), strict=True)
        return [role_of(name, leaf.shape, roles) for name, leaf in named]

    def init(params: Any) -> LeafwiseState:
        def start(leaf: Any, role: str, name: str) -> dict[str, Any]:
            return method.start(jax_arrays, leaf, role, lambda like: noise.normal(f"start.{name}", 0, like))

        leaves = entered(method, jax.tree.leaves(params))
        known = zip(leaves, roles_of(params), leaf_names(params), strict=True)
        states = [start(*each) if each[0].size else {} for each in known]
        # Without weak types, which would make the second step another program.
        shared = method.share(jax_arrays)
        return LeafwiseState(jnp.zeros((), jnp.int32), like(shared, shared), states)

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        step: Any = None,
        Hvp: Any = None,
        vector: Any = None,
        update_preconditioner: Any = True,
        **_: Any,
    ) -> tuple[Any, Any]:
        """`step` is the count where the caller knows it better, as one number for many lanes."""
        if params is None:
            raise ValueError(f"{method.name}: update(grads, state, params) needs `params`")
        count = state.count if step is None else step
        known = At(count + 1, at(rate, count), "", state.shared)
        grads, structure = jax.tree.flatten(updates)
        leaves, states = structure.flatten_up_to(params), [dict(each) for each in state.leaves]
        dtypes = [leaf.dtype for leaf in leaves]
        grads, leaves = (entered(method, each) for each in (grads, leaves))
        rows = zip(grads, leaves, states, strict=True)
        gathered = [method.gather(jax_arrays, *row, known) for row in rows if row[1].size]
        shared = method.agree(jax_arrays, tuple(map(sum, zip(*gathered, strict=True))), known)
        known = known._replace(shared=like(shared, state.shared))
        diagonals: list[Any] = [None] * len(leaves)
        if Hvp is not None:
            products, vectors = (structure.flatten_up_to(unmasked(updates, each)) for each in (Hvp, vector))
            diagonals = [product * v for product, v in zip(products, vectors, strict=True)]

        def advance(g: Any, p: Any, held: Any, diagonal: Any, role: str) -> Any:
            after = dict(held)
            its = known._replace(role=role, diagonal=diagonal, due=update_preconditioner)
            return method.step(jax_arrays, g, p, after, its), after

        # What has no entries stays; of the others, matrices of one role are stepped together where that pays.
        new: list[Any] = [(grad, {}) for grad in grads]
        together: dict[Any, list[int]] = {}
        for i, (leaf, role) in enumerate(zip(leaves, roles_of(params), strict=True)):
            if leaf.size:
                apart = () if method.stacks and leaf.ndim > 1 else (i,)
                together.setdefault((role, *apart), []).append(i)
        for (role, *_place), places in together.items():
            rows = [(grads[i], leaves[i], states[i], diagonals[i]) for i in places]
            done = jax_arrays.each(functools.partial(advance, role=role), rows)
            for i, one in zip(places, done, strict=True):
                new[i] = one
        kept = [like(after, before) for (_, after), before in zip(new, state.leaves, strict=True)]
        held = LeafwiseState(jnp.asarray(optax.safe_increment(state.count)), known.shared, kept)
        moved = [each.astype(dtype) for (each, _), dtype in zip(new, dtypes, strict=True)]
        return structure.unflatten(moved), held

    return optax.GradientTransformationExtraArgs(init, update)


def entered(method: Leafwise, leaves: Any) -> list[Any]:
    """Arrays as a step sees them, in float32 at least; complex ones are refused."""
    refuse_complex(method.name, leaves)
    return [leaf.astype(wide(leaf.dtype)) for leaf in leaves]


def like(new: Any, old: Any) -> Any:
    """A state with the dtypes of the one before it."""
    return jax.tree.map(lambda x, before: jnp.asarray(x, jnp.result_type(before)), new, old)


def rule(method: Leafwise, rate: Any, setting: Setting) -> OptaxRule:
    """The rule of a method; one of second order is given products along random signs."""
    made = transformation(method, rate, setting.roles, setting.noise)
    if method.order == 1:
        return LeafwiseRule(method, made)
    from optbench.optimizers.esgd.jax import signs

    return CurvatureRule(made, lambda state, t: method.due(t), functools.partial(signs, setting.noise))


class LeafwiseRule(OptaxRule):
    """The transformation under the step that all lanes share, so that a cadence is a branch."""

    def __init__(self, method: Leafwise, made: optax.GradientTransformation):
        super().__init__(made)
        self.method = method

    def step(self, params: Any, state: Any, objective: Any, t: Any) -> Any:
        return self.moved(params, state, *objective.value_and_grad(params), step=t)

    def evaluated(self, params: Any, state: Any) -> Any:
        if not self.method.averages:
            return params
        leaves, structure = jax.tree.flatten(params)
        pairs = zip(leaves, state.leaves, strict=True)
        seen = [self.method.evaluated(jax_arrays, p, s).astype(p.dtype) if p.size else p for p, s in pairs]
        return structure.unflatten(seen)
