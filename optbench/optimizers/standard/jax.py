"""The factories of methods written once, such as `soap` and `muon`; and what optax has otherwise than its source.

from optbench.optimizers.standard.jax import soap
transformation = soap(3e-3)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.optimizers.leafwise import Leafwise
from optbench.rules.optax_transform import checked, one_minus_power


def __getattr__(name: str) -> Any:
    """The factory of a method that is written once, by its name."""
    from optbench.optimizers.leafwise.jax import factory
    from optbench.optimizers.standard import CLASSES

    for declared in CLASSES:
        if declared.name == name and issubclass(declared, Leafwise):
            return factory(declared)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def rprop(*arguments: Any) -> optax.GradientTransformation:
    """`optax.scale_by_rprop` with the step that belongs to this gradient.

    Version 0.2.8 computes it, keeps it, and hands out the one of the iteration before: the first is 0.
    """
    late = optax.scale_by_rprop(*arguments)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        _, state = late.update(updates, state, params)
        return state.prev_updates, state

    return checked("rprop", optax.GradientTransformation(late.init, update))


def adadelta(*arguments: Any) -> optax.GradientTransformation:
    """`optax.adadelta`, which takes the square of a complex number as z^2, for real parameters."""
    return checked("adadelta", optax.adadelta(*arguments))


def amsgrad(rate: Callable[[Any], Any], b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """AMSGrad whose maximum is over the uncorrected squares, and is corrected after it."""

    def corrected(count: Any) -> jax.Array:
        """sqrt(1 - b2^t) at step t = count + 1, in the widest dtype that is on."""
        return jnp.sqrt(one_minus_power(b2, count + 1, jnp.result_type(float)))

    names = inspect.signature(optax.scale_by_amsgrad).parameters.keys()
    factory = optax.inject_hyperparams(optax.scale_by_amsgrad, static_args=names - {"eps"})
    scaled = factory(b1=b1, b2=b2, eps=lambda count: eps * corrected(count), bias_correction_nu=False)
    return optax.chain(scaled, optax.scale_by_learning_rate(lambda count: rate(count) * corrected(count)))


def radam(rate: Callable[[Any], Any], b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """RAdam with eps beside the uncorrected root, and a rectification that float32 can hold.

    `optax.scale_by_radam` takes 1 - b2^t by subtraction, and is off by a hundredth in float32 when it sets in.
    """
    longest = 2 / (1 - b2) - 1

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        first, second = (one_minus_power(decay, count, jnp.result_type(float)) for decay in (b1, b2))
        length = longest - 2 * count * (1 - second) / second
        known = length > 5
        long = jnp.where(known, length, longest)
        ratio = (long - 4) * (long - 2) * longest / ((longest - 4) * (longest - 2) * long)

        def step(m: jax.Array, v: jax.Array) -> jax.Array:
            rectified = jnp.sqrt(ratio * second) / (jnp.sqrt(v) + eps)
            return (jnp.where(known, rectified, 1) * m / first).astype(m.dtype)

        return jax.tree.map(step, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    stepped = optax.GradientTransformation(optax.scale_by_adam(b1, b2).init, update)
    return optax.chain(stepped, optax.scale_by_learning_rate(rate))


def from_the_first_gradient(early: Any) -> optax.GradientTransformation:
    """A transformation that finds its step size, and moves nothing before a gradient that is not zero.

    Until then its estimate is 0 / 0, and optax's is NaN from there on. The authors' packages return early there.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        moves, new = early.update(updates, state, params)
        seen = optax.tree.sum(jax.tree.map(jnp.abs, new.grad_sum)) != 0
        moves = jax.tree.map(lambda move: jnp.where(seen, move, 0), moves)
        return moves, new._replace(estim_lr=jnp.where(seen, new.estim_lr, state.estim_lr))

    return optax.GradientTransformation(early.init, update)


def madgrad(rate: Callable[[Any], Any], *arguments: Any, **options: Any) -> optax.GradientTransformation:
    """MADGRAD with weights in the widest dtype that is on: optax's takes the root of an int32, in float32."""
    inner: Any = optax.contrib.scale_by_madgrad(
        lambda count: rate(jnp.asarray(count, jnp.int32)), *arguments, **options
    )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        count = state.count.astype(jnp.result_type(float))
        moves, new = inner.update(updates, state._replace(count=count), params)
        return moves, new._replace(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(inner.init, update)


def adafactor(rate: Callable[[Any], Any], decay: float, clipping: float, eps: float) -> Any:
    """Adafactor with relative steps of at most 1 / sqrt(t); the decay is computed in the dtype of the gradients.

    optax's own computes it in float32, does not factor axes shorter than 128, and of more than two axes factors the two
    longest, where torch factors the last two.
    """

    def remembered(count: Any, exponent: Any) -> jax.Array:
        return 1 - jnp.asarray(count + 1, jnp.result_type(float)) ** -exponent

    def relative(count: Any) -> jax.Array:
        t = jnp.asarray(count + 1, jnp.result_type(float))
        return jnp.minimum(rate(count), 1 / jnp.sqrt(t))

    factored = optax.scale_by_factored_rms(
        decay_rate=decay, min_dim_size_to_factor=1, epsilon=eps, decay_rate_fn=remembered
    )
    return optax.chain(
        by_matrix(factored, optax.FactoredState._make((None, 0, 0, 0))),
        optax.clip_by_block_rms(clipping),
        optax.scale_by_learning_rate(relative),
        optax.scale_by_param_block_rms(),
    )


def by_matrix(of_leaf: Any, axes: Any) -> optax.GradientTransformation:
    """A transformation of one leaf, given each leaf; one of more than two axes as a stack of matrices.

    `axes` says which parts of the state there is one of for each matrix (0), and which are the stack's (None).
    """

    def folded(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(-1, *leaf.shape[-2:]) if leaf.ndim > 2 else leaf

    def init(params: Any) -> Any:
        stacked = jax.vmap(of_leaf.init, out_axes=axes)
        return jax.tree.map(lambda leaf: (stacked if leaf.ndim > 2 else of_leaf.init)(folded(leaf)), params)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        stacked = jax.vmap(of_leaf.update, in_axes=(0, axes, 0), out_axes=(0, axes))
        leaves, structure = jax.tree.flatten(params)
        rows = zip(leaves, structure.flatten_up_to(updates), structure.flatten_up_to(state), strict=True)
        done = [
            (stacked if leaf.ndim > 2 else of_leaf.update)(folded(update), its, folded(leaf))
            for leaf, update, its in rows
        ]
        new = [update.reshape(leaf.shape) for leaf, (update, _) in zip(leaves, done, strict=True)]
        return structure.unflatten(new), structure.unflatten([its for _, its in done])

    return optax.GradientTransformation(init, update)
