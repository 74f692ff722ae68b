"""What a user does with an optax transformation, for every standalone optimizer in JAX, beyond its conformance.

An optimizer is added with one line in STANDALONE.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from optbench.optimizers.affine.jax import affine
from optbench.optimizers.esgd.jax import esgd
from optbench.optimizers.expectigrad.jax import expectigrad, scale_by_expectigrad
from optbench.optimizers.kron.jax import kron
from optbench.optimizers.leafwise import Leafwise
from optbench.optimizers.leafwise.jax import factory
from optbench.optimizers.leafwise.torch import class_of
from optbench.optimizers.lra.jax import lra
from optbench.optimizers.ngc.jax import ngc_adam, ngc_nag, ngc_sgd
from optbench.optimizers.novograd.jax import novograd, scale_by_novograd
from optbench.optimizers.psgd_dq.jax import dense_newton, kron_dq, lra_dq
from optbench.optimizers.standard import CLASSES
from optbench.optimizers.xmat.jax import xmat


class Standalone(NamedTuple):
    """A factory, the name of its step size, its other options, and the extra arguments of `update`."""

    make: Callable[..., optax.GradientTransformation]
    rate: str
    options: dict[str, Any] = {}  # noqa: RUF012
    extra: Callable[[Any], dict[str, Any]] = lambda grads: {}
    static: tuple[str, ...] = ()
    """Options that choose shapes, which inject_hyperparams must leave alone."""


def curvature(grads):
    return {"Hvp": grads, "vector": jax.tree.map(jnp.ones_like, grads), "update_preconditioner": True}


STANDALONE = [
    Standalone(esgd, "lr", {"eps": 1.0, "weight_decay": 0.1}, curvature),
    Standalone(expectigrad, "lr"),
    Standalone(ngc_adam, "eta"),
    Standalone(ngc_nag, "eta"),
    Standalone(ngc_sgd, "eta"),
    Standalone(novograd, "learning_rate", {"weight_decay": 0.1}),
    Standalone(
        kron,
        "learning_rate",
        static=("max_size_triangular", "min_ndim_triangular", "lax_map_batch_size"),
    ),
    Standalone(xmat, "learning_rate"),
    Standalone(
        lra, "learning_rate", {"uvd_rank_of_approximation": 2}, curvature, ("uvd_rank_of_approximation",)
    ),
    Standalone(affine, "learning_rate", static=("max_size_triangular", "max_skew_triangular")),
    Standalone(
        kron_dq,
        "learning_rate",
        {"dQ": "QEQ", "preconditioner_max_skew": 2.0},
        static=("preconditioner_max_size", "preconditioner_max_skew"),
    ),
    Standalone(lra_dq, "learning_rate", {"rank_of_approximation": 0}, static=("rank_of_approximation",)),
    Standalone(dense_newton, "learning_rate", {"dQ": "QUAD", "momentum": 0.5}, curvature),
]
NAMES = [one.make.__name__ for one in STANDALONE]
QUICK = (esgd, novograd, kron)
each_compiled = pytest.mark.parametrize(
    "one",
    [pytest.param(one, marks=[pytest.mark.slow] * (one.make not in QUICK)) for one in STANDALONE],
    ids=NAMES,
)

PARAMS = {"a": jnp.asarray([1.0, -2.0]), "b": jnp.asarray([0.5, 3.0])}
STEPS = 4


def gradient(params):
    return jax.tree.map(lambda p: p - 0.3, params)


def built(one, rate=0.1):
    return optax.with_extra_args_support(one.make(**{one.rate: rate}, **one.options))


def advance(one, rule, params, state):
    grads = gradient(params)
    updates, state = rule.update(grads, state, params, **one.extra(grads))
    return optax.apply_updates(params, updates), state


def run(one, rule, params):
    body = lambda carry, _: (advance(one, rule, *carry), None)  # noqa: E731
    return jax.lax.scan(body, (params, rule.init(params)), length=STEPS)[0][0]


@each_compiled
def test_jit_scan_donation_and_vmap(one):
    rule = built(one)
    step = jax.jit(lambda params, state: advance(one, rule, params, state), donate_argnums=(0, 1))
    params = jax.tree.map(jnp.array, PARAMS)
    state = rule.init(params)
    for _ in range(STEPS):
        spent = params
        params, state = step(params, state)
        assert spent["a"].is_deleted()
    lanes = jax.tree.map(lambda p: jnp.stack([p, -p, 2 * p]), PARAMS)
    scanned = jax.jit(jax.vmap(lambda params: run(one, rule, params)))(lanes)
    for leaf in PARAMS:
        np.testing.assert_allclose(scanned[leaf][0], params[leaf], rtol=1e-5)
        assert np.abs(scanned[leaf][1] - scanned[leaf][2]).max() > 0.1


@each_compiled
def test_a_nan_in_the_gradient_is_seen_in_the_parameter(one):
    rule = built(one)
    spoil = {"a": jnp.asarray([0.0, jnp.nan]), "b": jnp.zeros(2)}

    @jax.jit
    def run(params):
        params, state = advance(one, rule, params, rule.init(params))
        grads = jax.tree.map(jnp.add, gradient(params), spoil)
        updates, _ = rule.update(grads, state, params, **one.extra(grads))
        return params, optax.apply_updates(params, updates)

    before, after = run(PARAMS)
    assert not any(jnp.isnan(leaf).any() for leaf in before.values())
    assert jnp.isnan(after["a"]).any()


@each_compiled
def test_chain_masked_multi_transform_inject_hyperparams_and_schedules(one):
    schedule = optax.linear_schedule(0.1, 0.05, STEPS)
    label = {"a": "ours", "b": "frozen"}
    plain = built(one)
    wrapped = {
        "chain": optax.chain(optax.clip_by_global_norm(1e6), plain),
        "masked": optax.chain(
            optax.masked(plain, {"a": True, "b": False}),
            optax.masked(optax.set_to_zero(), {"a": False, "b": True}),
        ),
        "multi": optax.multi_transform({"ours": plain, "frozen": optax.set_to_zero()}, label),
        "inject": optax.inject_hyperparams(one.make, one.static)(**{one.rate: 0.1}, **one.options),
        "inject schedule": optax.inject_hyperparams(one.make, one.static)(
            **{one.rate: schedule}, **one.options
        ),
    }

    @jax.jit
    def everything(params):
        got = {name: run(one, rule, params) for name, rule in wrapped.items()}
        got["plain"], got["schedule"] = run(one, plain, params), run(one, built(one, schedule), params)
        return got

    got = everything(PARAMS)
    for name, same_as in (("chain", "plain"), ("inject", "plain"), ("inject schedule", "schedule")):
        for leaf in PARAMS:
            np.testing.assert_allclose(got[name][leaf], got[same_as][leaf], rtol=1e-5, err_msg=name)
    for name in ("masked", "multi"):
        np.testing.assert_array_equal(got[name]["b"], PARAMS["b"])
        assert np.abs(got[name]["a"] - PARAMS["a"]).max() > 0
    np.testing.assert_array_less(
        np.abs(got["schedule"]["a"] - PARAMS["a"]), np.abs(got["plain"]["a"] - PARAMS["a"])
    )


@pytest.mark.parametrize("scale", [scale_by_expectigrad, scale_by_novograd], ids=lambda f: f.__name__)
def test_what_comes_without_a_learning_rate_takes_extra_arguments_too(scale):
    rule, grads = scale(), gradient(PARAMS)
    rule.update(grads, rule.init(PARAMS), PARAMS, value=1.0)


WRITTEN_ONCE = pytest.mark.parametrize(
    "declared", [each for each in CLASSES if issubclass(each, Leafwise)], ids=lambda each: each.name
)
TWO = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}


@WRITTEN_ONCE
def test_a_second_step_is_the_same_program(declared):
    rule = factory(declared)(0.1)
    before = jax.eval_shape(rule.init, TWO)
    _, after = jax.eval_shape(rule.update, TWO, before, TWO)
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype, x.weak_type), before
    )


@WRITTEN_ONCE
def test_inject_hyperparams_takes_all_numbers_but_counts(declared):
    def stepped(counts):
        rule = optax.inject_hyperparams(factory(declared), static_args=counts)(learning_rate=0.1)
        return jax.eval_shape(lambda params: rule.update(params, rule.init(params), params), TWO)

    counts = tuple(each.name for each in dataclasses.fields(declared) if "int" in str(each.type))
    stepped((*counts, *declared.shapes))
    if any(isinstance(getattr(declared(), name), int) for name in counts):
        with pytest.raises(ValueError, match=f"give optax.inject_hyperparams static_args=.*{counts[0]}"):
            stepped(())


def test_a_class_of_ones_own_may_have_plain_fields():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Signs(Leafwise, slots=("m",)):
        """Signs of a momentum."""

        learning_rate: float = 0.001
        b1: float = 0.5

        def step(self, xp, g, p, s, at):
            s["m"] = xp.ema(s["m"], g, self.b1)
            return -at.lr * xp.np.sign(s["m"])

    rule = factory(Signs)(0.1, b1=0.9)
    updates, _ = rule.update(TWO, rule.init(TWO), TWO)
    param = torch.nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    class_of(Signs)([param], lr=0.1).step()
    assert float(updates["b"][0]) + 1 == pytest.approx(param[0].item())
