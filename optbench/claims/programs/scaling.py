"""How the learning rate must move when the loss or the parameters are rescaled, so that the path stays the same."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench import optimizers
from optbench.core import Optimizer, Setting
from optbench.engines.jax_program import JaxObjective
from optbench.rules.optax import KeyNoise

Params = dict[str, jax.Array]


def network(seed: int) -> tuple[Params, Any]:
    """First parameters and loss of a network of three tanh units on eight points, twice differentiable."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((8, 3)), rng.standard_normal(8)
    params = {
        "b": jnp.zeros(3),
        "v": jnp.asarray(rng.standard_normal(3)),
        "w": jnp.asarray(rng.standard_normal((3, 3))),
    }

    def loss(p: Params) -> jax.Array:
        return jnp.mean((jnp.tanh(x @ p["w"].T + p["b"]) @ p["v"] - y) ** 2)

    return params, loss


def laws(
    methods: dict[str, list[Any]], factors: list[float], steps: int, rate: float, seed: int
) -> list[dict[str, Any]]:
    """For each method, how its first step moves with the loss and with the parameters, and the path with it.

    `methods` maps a name to the exponents of n with which its learning rate should move, for the loss and for the
    parameters, and to the form of the method without eps (None if it has none). `exponents` are minus the logarithm to
    the base n of how much longer the first step becomes, for each factor n; `off` the largest distance between the
    paths, relative to how far they get, in float64, when the learning rate moves as it should.
    """
    rows = []
    with jax.enable_x64(True):
        for name, (loss, params, exact) in methods.items():
            expected = {"loss": loss, "parameters": params}
            found = rescaled(optimizers.parse(name), expected, factors, steps, rate, seed)
            without = (
                rescaled(optimizers.parse(exact), expected, factors, steps, rate, seed) if exact else found
            )
            rows += [
                {"method": name, "what": what, "documented": expected[what], "exponents": without[what][0],
                 "off": max(found[what][1]), "off_exact": max(without[what][1])}
                for what in expected
            ]  # fmt: skip
    return rows


def rescaled(
    optimizer: Optimizer, expected: dict[str, float], factors: list[float], steps: int, rate: float, seed: int
) -> dict[str, tuple[list[float], list[float]]]:
    """For the loss and for the parameters: the exponent that each factor asks for, and how far its path is off."""
    first, loss = network(seed)

    def path(given: jax.Array) -> Params:
        """The parameters after each step in the first units, when the loss is `up` times and they are `size` times."""
        up, size, learning_rate = given
        rule = optimizer.bind({"learning_rate": learning_rate}).jax(
            Setting(lambda t: 1.0, KeyNoise.seeded(seed), steps)
        )
        objective: Any = JaxObjective(lambda p: up * loss(jax.tree.map(lambda x: x / size, p)))
        params = jax.tree.map(lambda x: x * size, first)

        def step(carry: Any, t: Any) -> Any:
            params, state = carry
            done = rule.step(params, state, objective, t)
            return (done.params, done.state), jax.tree.map(lambda x: x / size, done.params)

        return jax.lax.scan(step, (params, rule.init(params)), jnp.arange(steps))[1]

    lanes = [(1.0, 1.0, rate)]
    for what, exponent in expected.items():
        for n in factors:
            scale = (n, 1.0) if what == "loss" else (1.0, n)
            lanes += [(*scale, rate), (*scale, rate * n**exponent)]
    paths = jax.jit(lambda lanes: jax.lax.map(path, lanes))(jnp.array(lanes))
    moved = flat(paths) - flat({name: value[None, None] for name, value in first.items()})
    base, same, lawful = moved[0], moved[1::2], moved[2::2]
    longer = np.linalg.norm(same[:, 0], axis=1) / np.linalg.norm(base[0])
    exponents = -np.log(longer) / np.log(np.tile(factors, len(expected))) + 0.0
    off = np.abs(lawful - base).max(axis=(1, 2)) / np.abs(base).max()
    halves = zip(np.split(exponents, len(expected)), np.split(off, len(expected)), strict=True)
    return {what: (e.tolist(), o.tolist()) for what, (e, o) in zip(expected, halves, strict=True)}


def flat(tree: Params) -> np.ndarray:
    """All leaves as one axis behind lanes and steps."""
    return np.concatenate(
        [np.asarray(leaf).reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(tree)], axis=2
    )
