"""What our optax transformations share: bias corrections, wide dtypes, rounding, masks."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.ranges import is_off


def zeros(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros_like(x, dtype=dtype(x.dtype)), tree)


def one_minus_power(base: Any, count: Any, dtype: Any) -> jax.Array:
    """1 - base^count, to the last digit also where the power is near 1; 0 at count 0."""
    if is_off(base):
        return jnp.where(count > 0, 1, 0).astype(dtype)
    log = math.log(base) if isinstance(base, Real) else jnp.log(base)
    return -jnp.expm1(jnp.asarray(count, dtype) * jnp.asarray(log, dtype))


def wide(dtype: Any) -> Any:
    return jnp.promote_types(dtype, jnp.float32)


def rounded(value: Any, dtype: Any) -> Any:
    """A hyperparameter as the nearest number of `dtype`, still a Python float if it was one."""
    return float(jnp.dtype(dtype).type(value)) if isinstance(value, Real) else value


def refuse_complex(owner: str, params: Any) -> None:
    if any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(params)):
        raise ValueError(
            f"{owner}: a parameter is complex, which is not supported; "
            "optax.contrib.split_real_and_imaginary gives it its parts"
        )


def checked(owner: str, transform: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """A transformation that refuses complex parameters, and whose inner one sees no parameter without entries."""
    made = optax.with_extra_args_support(transform)

    def seen(tree: Any) -> Any:
        return jax.tree.map(lambda x: x if jnp.size(x) else optax.MaskedNode(), tree)

    def init(params: Any) -> Any:
        refuse_complex(owner, params)
        return made.init(seen(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        found, state = made.update(seen(updates), state, seen(params), **extra)
        return jax.tree.map(lambda given, new: new if jnp.size(given) else given, updates, found), state

    return optax.GradientTransformationExtraArgs(init, update)


def check_static(owner: str, **given: Any) -> None:
    """Raise ValueError for an option that counts or chooses shapes and is an array, which jit may trace."""
    traced = [name for name, value in given.items() if isinstance(value, jax.Array)]
    if traced:
        raise ValueError(
            f"{owner}: {', '.join(traced)} count or choose shapes and cannot be arrays; "
            f"give optax.inject_hyperparams static_args={tuple(given)}"
        )


def unmasked(updates: Any, tree: Any) -> Any:
    """`tree` with the holes that `optax.masked` makes in `updates` but not in extra arguments."""

    def is_hole(x: Any) -> bool:
        return isinstance(x, optax.MaskedNode)

    return jax.tree.map(lambda u, x: u if is_hole(u) else x, updates, tree, is_leaf=is_hole)
