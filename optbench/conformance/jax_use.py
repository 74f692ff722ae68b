"""What users do with an optax transformation: wrap it, mask it, schedule it, scan it, map it over lanes."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optbench.conformance import Inapplicable
from optbench.conformance.jax import STEPS, Subject, last
from optbench.conformance.problem import PAIR, apart
from optbench.rules.optax import AskingRule

ROUNDING = 1e-4
"""How far apart two programs of the same arithmetic may be in float32, relative to the largest entry."""


def close(one: Mapping[str, Any], other: Mapping[str, Any], what: str) -> None:
    gap, tree = apart(other, one), "{'b': [2], 'w': [3, 2]}"
    assert gap <= ROUNDING, f"{what} on {tree} is {gap:.1e} from the plain path after 4 steps."


def check_multi_steps(subject: Subject) -> str:
    """Two equal gradients are averaged to one."""
    rows = [t // 2 for t in range(2 * STEPS)]
    if subject.differentiates:
        raise Inapplicable(
            "Its products with the Hessian are of one batch, which MultiSteps does not average."
        )
    path = subject.path(lambda each: optax.MultiSteps(each, 2).gradient_transformation(), rows)
    close(last(path), last(subject.path()), "MultiSteps of two equal gradients")
    return "MultiSteps averages gradients before its step."


def masked(transform: Any) -> Any:
    return optax.chain(
        optax.masked(transform, {"b": False, "w": True}),
        optax.masked(optax.set_to_zero(), {"b": True, "w": False}),
    )


def check_masked(subject: Subject) -> str:
    path, first = subject.path(masked), subject.start()
    assert np.array_equal(path["b"][-1], first["b"]), "optax.masked moves a leaf [2] that is masked out."
    assert not np.array_equal(path["w"][-1], first["w"]), "Under optax.masked a leaf [3, 2] never moves."
    return "optax.masked leaves the others alone."


def check_multi_transform(subject: Subject) -> str:
    labels = {"b": "frozen", "w": "ours"}
    path = subject.path(
        lambda own: optax.multi_transform({"ours": own, "frozen": optax.set_to_zero()}, labels)
    )
    still = np.array_equal(path["b"][-1], subject.start()["b"])
    assert still, "multi_transform moves a leaf [2] of another label."
    close(last(path), last(subject.path(masked)), "multi_transform, against optax.masked,")
    return "multi_transform steps its own label, as optax.masked does."


def injected(subject: Subject) -> Any:
    """With its learning rate in the state."""
    swept = subject.optimizer.swept()
    if swept is None:
        return subject.transform()
    made = optax.inject_hyperparams(lambda learning_rate: subject.transform(learning_rate))
    return made(learning_rate=getattr(subject.optimizer, swept.name))


def chained(transform: Any) -> Any:
    return optax.chain(optax.clip_by_global_norm(1e6), transform, optax.scale(1.0))


def guarded(transform: Any) -> Any:
    return optax.apply_if_finite(transform, 5)


def together(subject: Subject) -> Any:
    """All three at once where they leave the path as it is, else None: one program for three checks."""

    def wrap(_: Any) -> Any:
        return guarded(chained(injected(subject)))

    def tried() -> Any:
        try:
            close(last(subject.path(wrap)), last(subject.path()), "All")
        except Exception:
            return None
        return wrap

    return subject.once("together", tried)


def check_inject_hyperparams(subject: Subject) -> str:
    swept = subject.optimizer.swept()
    if swept is None:
        raise Inapplicable("It has no learning rate.")
    rate = getattr(subject.optimizer, swept.name)
    found = float(injected(subject).init(subject.start()).hyperparams["learning_rate"])
    assert np.isclose(found, rate), f"Its state has the learning rate {found:g}, and not {rate:g}."
    if not together(subject):
        close(last(subject.path(lambda _: injected(subject))), last(subject.path()), "inject_hyperparams")
    return "inject_hyperparams holds its learning rate, and goes the same way."


def check_chain(subject: Subject) -> str:
    if not together(subject):
        close(last(subject.path(chained)), last(subject.path()), "optax.chain")
    return "In optax.chain it goes the same way."


def check_apply_if_finite(subject: Subject) -> str:
    """A step whose gradient is NaN is as if it had not been."""
    rows, weights = [0, 1, 1, 2], {name: [1, 1, np.nan, 1] for name in PAIR}
    if subject.differentiates:
        raise Inapplicable("apply_if_finite looks at gradients, and not at its products with the Hessian.")
    ill, well = subject.path(together(subject) or guarded, rows, weights), subject.path()
    for step, as_after, what in ((2, 1, "at"), (3, 2, "after")):
        here, there = ({k: v[t] for k, v in path.items()} for path, t in ((ill, step), (well, as_after)))
        close(here, there, f"apply_if_finite {what} a NaN")
    return "apply_if_finite leaves out a step whose gradient is NaN."


def check_value(subject: Subject) -> str:
    """An `update` that is given `value=`, and more that it may not know."""
    made, params = optax.with_extra_args_support(subject.transform()), subject.start()

    def step(params: Any) -> Any:
        objective = subject.objective(PAIR, 0)
        loss, grads = objective.value_and_grad(params)
        given = {"value": loss, "grad": grads, "value_fn": objective.value, "unknown": loss}
        if subject.differentiates:
            given |= {"Hvp": grads, "vector": grads, "update_preconditioner": True}
        return made.update(grads, made.init(params), params, **given)[0]

    updates = jax.eval_shape(step, params)
    assert jax.tree.structure(updates) == jax.tree.structure(params), "update(value=) gives another tree."
    return "update takes value=, grad= and value_fn=."


def check_vmap(subject: Subject) -> str:
    made = subject.transform()

    @jax.jit
    @jax.vmap
    def lanes(params: Any) -> Any:
        def body(carry: Any, t: Any) -> Any:
            return subject.updated(made, carry[0], carry[1], subject.objective(PAIR, t), t), None

        return jax.lax.scan(body, (params, made.init(params)), jnp.arange(STEPS))[0][0]

    first = subject.start()
    found = lanes(jax.tree.map(lambda p: jnp.stack([p, -p]), first))
    close({name: np.asarray(value[0]) for name, value in found.items()}, last(subject.path()), "vmap")
    return "Under vmap each lane goes as it goes alone."


def check_carry(subject: Subject) -> str:
    """The state of a step has the structure, shapes and dtypes of the state before, as scan wants."""
    made = subject.transform()
    for dtype in (jnp.float32, jnp.bfloat16):
        params = subject.start(dtype=dtype)
        state = jax.eval_shape(made.init, params)
        step = functools.partial(
            subject.updated, made, objective=subject.objective(PAIR, 0, dtype=dtype), t=0
        )
        after, new = jax.eval_shape(step, params, state)
        same = jax.tree.structure(new) == jax.tree.structure(state)
        assert same, "Its state changes its structure at a step."
        for (path, one), other in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(new), strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype), (
                f"With parameters in {jnp.dtype(dtype)} its state{jax.tree_util.keystr(path)} is {one.dtype}"
                f"{list(one.shape)} at first and {other.dtype}{list(other.shape)} after a step."
            )
        kinds = {leaf.dtype for leaf in after.values()}
        assert kinds == {jnp.dtype(dtype)}, f"Parameters leave {jnp.dtype(dtype)}."
    return "Its state is a stable carry of scan, in float32 and bfloat16."


def steps_tree(subject: Subject, params: Any) -> None:
    """One step of a tree of another kind."""
    made, extra = subject.transform(), {}
    grads = jax.tree.map(jnp.ones_like, params)
    if subject.differentiates:
        extra = {"Hvp": grads, "vector": grads, "update_preconditioner": True}
    if isinstance(subject.rule(), AskingRule):
        extra = {"value": jnp.ones(()), "grad": grads, "value_fn": optax.tree.sum}
    after, _ = jax.eval_shape(lambda p: made.update(grads, made.init(p), p, **extra), params)
    same = jax.tree.structure(after) == jax.tree.structure(params)
    assert same, "Its updates are a tree of another structure."


def check_nested(subject: Subject) -> str:
    leaf = jnp.ones((3, 2))
    steps_tree(subject, {"block": [(leaf, {"a.b": leaf}), None], "a": {"b": leaf}, "c.d": leaf[0]})
    return "It steps nested dicts, lists and tuples with None in them."


def check_flax(subject: Subject) -> str:
    flax = needed("flax.core")
    layer = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    steps_tree(subject, flax.freeze({"params": {"Dense_0": layer}}))
    return "It steps a frozen dict of flax."


def check_equinox(subject: Subject) -> str:
    equinox = needed("equinox")
    steps_tree(subject, equinox.filter(equinox.nn.MLP(3, 2, 4, 1, key=jax.random.key(0)), equinox.is_array))
    return "It steps a filtered module of equinox."


def needed(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Inapplicable(f"{error.name} is not installed.") from None
