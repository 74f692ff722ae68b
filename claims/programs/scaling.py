"""How the learning rate must move with the scale of the loss and of the parameters, so that the path stays the same."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from optbench import optimizers
from optbench.engines.jax_program import JaxObjective
from optbench.optimizer import Optimizer

from . import apart
from .training import built, stepping

Params = dict[str, jax.Array]


def network(seed: int) -> tuple[Params, Any]:
    """First parameters and loss of a sum of three tanh units on eight points, twice differentiable."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((8, 3)), rng.standard_normal(8)
    params = {"b": jnp.zeros(3), "w": jnp.asarray(rng.standard_normal((3, 3)))}

    def loss(p: Params) -> jax.Array:
        return jnp.mean((jnp.tanh(x @ p["w"].T + p["b"]).sum(axis=1) - y) ** 2)

    return params, loss


def laws(
    methods: dict[str, list[Any]], factors: list[float], steps: int, rate: float, seed: int
) -> list[dict[str, Any]]:
    """For each method and rescaling by n: the exponents of the law, measured, and the distance of paths under the law.

    `methods` maps a name to the exponents of n for the loss and for the parameters, and to the constant on the scale of
    a gradient or curvature, with the value that removes it (None without one). `exponents` are minus the logarithm to
    the base n of the first step's growth, without that constant; `off` the largest distance between paths over their
    length, in float64.
    """
    rows = []
    for name, (loss, params, exact) in methods.items():
        optimizer = optimizers.parse(name)
        usual, without = (
            ({}, {}) if exact is None else ({exact[0]: getattr(optimizer, exact[0])}, dict([exact]))
        )
        with jax.enable_x64(True):
            path = jax.jit(walk(optimizer, steps, seed))
            base, plain = (np.asarray(path(1.0, 1.0, rate, constant)) for constant in (usual, without))
            for what, law in (("loss", loss), ("parameters", params)):
                scales = [(n, 1.0) if what == "loss" else (1.0, n) for n in factors]
                rates = [rate * n**law for n in factors]
                same = [np.linalg.norm(path(*scale, rate, without)[0]) for scale in scales]
                longer = np.array(same) / np.linalg.norm(plain[0])
                moved, exactly = (
                    [path(*scale, moved, constant) for scale, moved in zip(scales, rates, strict=True)]
                    for constant in (usual, without)
                )
                exponents = (-np.log(longer) / np.log(factors) + 0.0).tolist()
                off = {"off": apart(np.array(moved), base), "off_exact": apart(np.array(exactly), plain)}
                rows.append({"method": name, "what": what, "documented": law, "exponents": exponents, **off})
    return rows


def walk(optimizer: Optimizer, steps: int, seed: int) -> Any:
    """The path from the start in the first units, with the loss times `up` and the parameters times `size`."""
    first, loss = network(seed)

    def path(up: Any, size: Any, learning_rate: Any, constant: dict[str, Any]) -> jax.Array:
        def shrunk(params: Params) -> Params:
            return jax.tree.map(lambda x: x / size, params)

        rule = built(optimizer, {"learning_rate": learning_rate, **constant}, seed, steps)
        body = stepping(rule, lambda t: JaxObjective(lambda p: up * loss(shrunk(p))))

        def step(carry: Any, t: Any) -> Any:
            carry = body(t, carry)
            return carry, ravel_pytree(shrunk(carry[0]))[0] - ravel_pytree(first)[0]

        params = jax.tree.map(lambda x: x * size, first)
        return jax.lax.scan(step, (params, rule.init(params)), jnp.arange(steps))[1]

    return path
