"""Hyperparameters that trials move are arguments of the compiled program: traced they give what constants give."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optbench import optimizers
from optbench.engines.jax_program import JaxObjective
from optbench.optimizer import Optimizer
from optbench.protocol import Setting
from optbench.ranges import is_off
from optbench.rules.optax import AskingRule, KeyNoise

STEPS = 24
FIRST = {"b": np.linspace(-1.0, 1.0, 3), "w": np.cos(np.arange(12.0)).reshape(4, 3)}
QUICKLY = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def searching() -> list[Optimizer]:
    """All that trials move more of than the learning rate, there: a trial, since a default of 0 is not traced."""
    known = [each for each in optimizers.names().values() if "jax" in each.frameworks()]
    known += map(optimizers.parse, ("adam+cautious", "adamw+mars", "ademamix[b3_warmup=9]"))
    return [each.at([0.4] * 9) for each in known if len(each.searched()) > 1]


def end(optimizer: Optimizer, numbers, params):
    """The parameters that are evaluated after some steps with these numbers, traced or not."""
    factors = jnp.linspace(1.0, 0.5, STEPS)
    setting = Setting(lambda t: factors[t], KeyNoise.seeded(0), STEPS, {})
    made = optimizer.bind(numbers).jax(setting)
    rule = made if hasattr(made, "step") else AskingRule(made)  # pyright: ignore[reportArgumentType]

    def step(t, carry):
        def loss(at):
            lit = 1 + factors[t] * jnp.sin(jnp.arange(3))
            return sum((lit * (x - 0.3) ** 2).sum() + (x**4).sum() for x in at.values())

        done = rule.step(*carry, JaxObjective(loss), t)
        return done.params, done.state

    return rule.evaluated(*jax.lax.fori_loop(0, STEPS, step, (params, rule.init(params))))


@pytest.mark.parametrize("optimizer", searching(), ids=lambda each: each.name)
def test_traced_numbers_give_what_constants_give(optimizer):
    numbers = optimizer.lane_numbers()
    assert len(numbers) > 1

    def both(params, traced):
        return end(optimizer, traced, params), end(optimizer, numbers, params)

    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, FIRST)
        compiled = jax.jit(both, compiler_options=QUICKLY)
        traced, constant = jax.device_get(compiled(params, jax.tree.map(jnp.float64, numbers)))
    for name, first in FIRST.items():
        assert np.abs(constant[name] - first).max() > 1e-6
        far = np.abs(traced[name] - constant[name]).max() / np.abs(constant[name]).max()
        assert far <= 1e-15, f"{name}: {far:.2g}"


def test_a_number_that_is_0_is_part_of_the_program():
    """It removes a state, so it is not traced, and cells with it are lanes of another program."""
    sgd, scion = optimizers.parse("sgd"), optimizers.parse("scion")
    assert sgd.lane_numbers().keys() == {"learning_rate"}
    assert sgd.replace(momentum=0.5).lane_numbers().keys() == {"learning_rate", "momentum"}
    assert dataclasses.replace(scion, b1=0.0).lane_numbers().keys() == {"learning_rate"}
    assert is_off(0.0)
    assert not is_off(jnp.zeros(()))
