"""What a schedule does to each method; what standard ones ask for and how it is counted, what is evaluated."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.extend.core import jaxprs_in_params

from optbench import optimizers
from optbench.engines.jax_program import JaxObjective
from optbench.fields import hyper
from optbench.optimizers.standard import CLASSES
from optbench.optimizers.standard.descent import Lion, SignSGD
from optbench.protocol import Setting
from tests import parity

EXPENSIVE = {("kron", "jax"), ("lra", "jax"), ("affine", "jax")}
"""What takes longest to compile; their kin are checked by default."""


def is_expensive(optimizer, framework):
    """Also JAX of what is in torch: what a schedule does is said once for both."""
    return (optimizer.name, framework) in EXPENSIVE or (
        framework == "jax" and len(optimizer.frameworks()) > 1
    )


STEPS = 5


def small(optimizer):
    return optimizer.replace(learning_rate=1e-3) if optimizer.swept() else optimizer


def loss_of(xp, params):
    """Curved, without a minimum nearby, over a matrix and a vector."""
    moved = params["a"] @ params["b"] + 1.5
    return (moved * moved).sum() + (params["a"] ** 2).sum()


FIRST = {"a": np.linspace(-1, 1.3, 12).reshape(4, 3), "b": np.array([0.3, -0.7, 1.1])}


def moved_in_jax(optimizer, factor):
    """How far the last of some steps goes, with `factor` at that step and 1 before."""
    with jax.enable_x64(True):
        noise = parity.JaxNoise(STEPS)
        objective = parity.JaxObjective(lambda params: loss_of(jnp, params))

        @jax.jit
        def last(factor):
            setting = Setting(lambda t: jnp.where(t < STEPS - 1, 1.0, factor), noise, STEPS)
            rule = optimizer.jax(setting)
            params = {name: jnp.asarray(value) for name, value in FIRST.items()}

            def body(t, carry):
                done = rule.step(*carry, objective, t)
                return done.params, done.state

            before, state = jax.lax.fori_loop(0, STEPS - 1, body, (params, rule.init(params)))
            after = rule.step(before, state, objective, STEPS - 1).params
            return {name: after[name] - before[name] for name in after}

        return {name: np.asarray(value) for name, value in last(factor).items()}


def moved_in_torch(optimizer, factor):
    torch.set_num_threads(1)
    rule = optimizer.torch(
        Setting(lambda t: 1.0 if t < STEPS - 1 else factor, parity.TorchNoise(STEPS), STEPS)
    )
    params = {name: torch.tensor(value, requires_grad=True) for name, value in FIRST.items()}
    state, before = rule.init(params), {}
    for t in range(STEPS):
        before = {name: value.detach().clone() for name, value in params.items()}
        state = rule.step(params, state, parity.TorchObjective(lambda p: loss_of(torch, p)), t).state
    return {name: (value.detach() - before[name]).numpy() for name, value in params.items()}


@pytest.mark.parametrize(
    ("optimizer", "framework"),
    [
        pytest.param(o, f, id=f"{o.name}-{f}", marks=[pytest.mark.slow] * is_expensive(o, f))
        for o in optimizers.names().values()
        for f in o.frameworks()
    ],
)
def test_half_the_factor_is_half_the_step(optimizer, framework):
    moved = {"jax": moved_in_jax, "torch": moved_in_torch}[framework]
    whole, half = (moved(small(optimizer), factor) for factor in (1.0, 0.5))
    assert any(np.abs(step).max() > 0 for step in whole.values())
    for name in whole:
        if optimizer.proportional:
            np.testing.assert_allclose(half[name], whole[name] / 2, rtol=1e-6, atol=1e-12, err_msg=name)
        else:
            assert not np.array_equal(half[name], whole[name]), "the schedule is not seen"


def dtypes(jaxpr):
    """The dtypes of all that a program computes, its branches and loops included."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.dtype for variable in equation.outvars if hasattr(variable.aval, "dtype"))
        for inner in jaxprs_in_params(equation.params):
            yield from dtypes(inner)


@pytest.mark.parametrize("name", [o.name for o in CLASSES if "jax" in o().frameworks()])
def test_nothing_is_float32_in_float64(name):
    """Guards the last digits: `optax.contrib.madgrad` takes a root in float32."""
    with jax.enable_x64(True):
        rule = optimizers.parse(name).jax(Setting(lambda t: 1.0, parity.JaxNoise(1), 1))
        objective = parity.JaxObjective(lambda params: loss_of(jnp, params))
        params = {name: jnp.asarray(value) for name, value in FIRST.items()}
        step = jax.make_jaxpr(lambda p, s, t: rule.step(p, s, objective, t)[:3])
        program = step(params, rule.init(params), jnp.int32(0))
    assert jnp.dtype("float32") not in set(dtypes(program.jaxpr))


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(o, id=o.name, marks=[] if o.finds_step else [pytest.mark.slow])
        for o in optimizers.names().values()
    ],
)
def test_gradients_of_zero_at_the_start_leave_no_trace(optimizer):
    """optax's `prodigy` and `dadapt_adamw` estimate 0 / 0 there, and are NaN for ever after."""
    weights = (0.0, 0.0, 1.0)
    if optimizer.name == "lbfgs":  # optax's has the gradient of its last search once more
        weights += (1.0,)
    if "jax" in optimizer.frameworks():
        rule = optimizer.jax(Setting(lambda t: 1.0, parity.JaxNoise(STEPS), STEPS))

        @jax.jit
        def run(params):
            state = rule.init(params)
            for t, weight in enumerate(weights):
                objective = parity.JaxObjective(lambda params, weight=weight: weight * loss_of(jnp, params))
                params, state, *_ = rule.step(params, state, objective, t)
            return params, state

        first = {name: jnp.asarray(value, jnp.float32) for name, value in FIRST.items()}
        params, state = run(first)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((params, state)))
        assert any((params[name] != first[name]).any() for name in first)
    if "torch" in optimizer.frameworks():
        rule = optimizer.torch(Setting(lambda t: 1.0, parity.TorchNoise(STEPS), STEPS))
        params = {name: torch.tensor(value, requires_grad=True) for name, value in FIRST.items()}
        state = rule.init(params)
        for t, weight in enumerate(weights):
            objective = parity.TorchObjective(lambda params, weight=weight: weight * loss_of(torch, params))
            state = rule.step(params, state, objective, t).state
        assert all(torch.isfinite(leaf).all() for leaf in params.values())


class Counted:
    def __init__(self):
        self.calls = 0

    def loss(self, params):
        jax.debug.callback(self.count)
        x, y = params["p"][0], params["p"][1]
        return (1 - x) ** 2 + 100 * (y - x * x) ** 2

    def count(self):
        self.calls += 1


def test_every_gradient_of_a_line_search_is_counted():
    calls = Counted()
    rule = optimizers.parse("lbfgs").jax(Setting(lambda t: 1.0, parity.JaxNoise(1), 1))
    objective = parity.JaxObjective(calls.loss)
    params = {"p": jnp.array([-1.2, 1.0])}
    state, counted = rule.init(params), 0
    step = jax.jit(lambda params, state: rule.step(params, state, objective, 0))
    for _ in range(10):
        params, state, _, counts = step(params, state)
        counted += int(counts.gradients)
    jax.effects_barrier()
    assert counted == calls.calls > 10


def test_every_call_of_a_closure_is_counted():
    calls = []

    def loss(params):
        calls.append(1)
        x, y = params["p"][0], params["p"][1]
        return (1 - x) ** 2 + 100 * (y - x * x) ** 2

    rule = optimizers.parse("lbfgs").torch(Setting(lambda t: 1.0, parity.TorchNoise(1), 1))
    params = {"p": torch.tensor([-1.2, 1.0], requires_grad=True)}
    state, counted = rule.init(params), 0
    for t in range(10):
        done = rule.step(params, state, parity.TorchObjective(loss), t)
        counted += done.counts.gradients
    assert counted == len(calls) > 10


def test_polyak_steps_to_where_a_line_would_vanish():
    """On f = |x|^2 / 2 Polyak's step is half the way."""
    rule = optimizers.parse("polyak_sgd").jax(Setting(lambda t: 1.0, parity.JaxNoise(1), 1))
    objective = parity.JaxObjective(lambda params: (params["x"] ** 2).sum() / 2)
    params = {"x": jnp.array([2.0, -4.0])}
    done = rule.step(params, rule.init(params), objective, 0)
    np.testing.assert_allclose(done.params["x"], [1.0, -2.0], rtol=1e-6)


def test_schedule_free_is_evaluated_at_the_average():
    rate, weight = 0.1, 0.9
    optimizer = optimizers.parse("schedule_free_sgd").replace(learning_rate=rate, b1=weight)
    rule = optimizer.jax(Setting(lambda t: 1.0, parity.JaxNoise(1), 1))
    objective = parity.JaxObjective(lambda params: (params["x"] ** 2).sum() / 2)
    y = z = x = np.array([1.0])
    params = {"x": jnp.asarray(y, jnp.float32)}
    state = rule.init(params)
    for t in range(4):
        params, state, *_ = rule.step(params, state, objective, t)
        z = z - rate * y
        x = x + (z - x) / (t + 1)
        y = weight * x + (1 - weight) * z
        np.testing.assert_allclose(params["x"], y, rtol=1e-5)
        np.testing.assert_allclose(rule.evaluated(params, state)["x"], x, rtol=1e-5)


def test_rprop_moves_at_its_first_step():
    """`optax.rprop` hands out each step one iteration late, so its first is 0."""
    rule = (
        optimizers.parse("rprop")
        .replace(learning_rate=0.1)
        .jax(Setting(lambda t: 1.0, parity.JaxNoise(1), 1))
    )
    objective = parity.JaxObjective(lambda params: (params["x"] ** 2).sum())
    params = {"x": jnp.array([2.0, -4.0])}
    done = rule.step(params, rule.init(params), objective, 0)
    np.testing.assert_allclose(done.params["x"], [1.9, -3.9], rtol=1e-6)


def test_sophia_takes_the_seeds_signs_and_counts_its_products():
    optimizer = optimizers.parse("sophia[update_every=2]")
    rule = optimizer.jax(Setting(lambda t: 1.0, parity.JaxNoise(6), 6))
    objective = parity.JaxObjective(lambda params: (params["x"] ** 4).sum())
    params = {"x": jnp.array([1.0, -2.0])}
    state, counted = rule.init(params), []
    for t in range(6):
        params, state, _, counts = rule.step(params, state, objective, t)
        counted.append(int(counts.hvps))
    assert counted == [1, 0, 1, 0, 1, 0]
    assert sum(counted) == optimizer.due_hvps(6)


def test_a_subclass_may_have_its_half_from_elsewhere_and_more_fields():
    """Of a method written once, and of one that optax has."""
    setting = Setting(lambda t: 1.0, parity.JaxNoise(1), 4)

    class Elsewhere(Lion):
        def in_torch(self, optim):
            return optim.SGD

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Scaled(SignSGD):
        scale: float = hyper(2.0, "factor of the rate", bounds="(0, inf)")

        def rate(self, setting):
            rate = super().rate(setting)
            return lambda t: self.scale * rate(t)

    param = torch.nn.Parameter(torch.zeros(2))
    assert type(Elsewhere().torch(setting).make([("a", param)])) is torch.optim.SGD
    rule, params = Scaled(learning_rate=0.5).jax(setting), {"a": jnp.ones(2)}
    done = rule.step(params, rule.init(params), JaxObjective(lambda p: p["a"].sum()), 0)
    np.testing.assert_array_equal(done.params["a"], [0.0, 0.0])
