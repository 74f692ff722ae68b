"""How the learning rate must move with the scale of the loss and of the parameters, so that the path stays the same."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from optbench import optimizers
from optbench.engines.jax_program import JaxObjective
from optbench.optimizer import Optimizer

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
        optimizer, expected = optimizers.parse(name), {"loss": loss, "parameters": params}
        constants = [{exact[0]: getattr(optimizer, exact[0])}, {exact[0]: exact[1]}] if exact else [{}]
        with jax.enable_x64(True):
            moved = rescaled(optimizer, expected, factors, steps, rate, seed, constants)
        (_, usual), (exponents, without) = compared(moved[0], factors), compared(moved[-1], factors)
        rows += [
            {"method": name, "what": what, "documented": expected[what], "exponents": exponents[i].tolist(),
             "off": float(usual[i].max()), "off_exact": float(without[i].max())}
            for i, what in enumerate(expected)
        ]  # fmt: skip
    return rows


def rescaled(
    optimizer: Optimizer, expected: dict[str, float], factors: list[float], steps: int, rate: float, seed: int,
    constants: list[dict[str, float]],
) -> list[np.ndarray]:  # fmt: skip
    """The paths of a method with each of its constants, all as lanes of one program."""
    first, loss = network(seed)

    def path(given: jax.Array) -> jax.Array:
        """The distance from the start in the first units, with loss times `up` and parameters times `size`."""
        up, size, learning_rate, *value = given

        def shrunk(params: Params) -> Params:
            return jax.tree.map(lambda x: x / size, params)

        numbers = {"learning_rate": learning_rate} | dict(zip(constants[0], value, strict=True))
        rule = built(optimizer, numbers, seed, steps)
        body = stepping(rule, lambda t: JaxObjective(lambda p: up * loss(shrunk(p))))

        def step(carry: Any, t: Any) -> Any:
            carry = body(t, carry)
            return carry, ravel_pytree(shrunk(carry[0]))[0] - ravel_pytree(first)[0]

        params = jax.tree.map(lambda x: x * size, first)
        return jax.lax.scan(step, (params, rule.init(params)), jnp.arange(steps))[1]

    lanes = [(1.0, 1.0, rate)]
    for what, exponent in expected.items():
        for n in factors:
            scale = (n, 1.0) if what == "loss" else (1.0, n)
            lanes += [(*scale, rate), (*scale, rate * n**exponent)]
    table = jnp.array([(*lane, *constant.values()) for constant in constants for lane in lanes])
    moved = np.asarray(jax.jit(lambda table: jax.lax.map(path, table))(table))
    return np.split(moved, len(constants))


def compared(moved: np.ndarray, factors: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Exponents and distances of paths for the loss and the parameters [2, factors].

    `moved` has the base, then each scale with the same learning rate and with that of the law.
    """
    base, same, lawful = moved[0], moved[1::2], moved[2::2]
    longer = np.linalg.norm(same[:, 0], axis=1) / np.linalg.norm(base[0])
    off = np.abs(lawful - base).max(axis=(1, 2)) / np.abs(base).max()
    return -np.log(longer).reshape(2, -1) / np.log(factors) + 0.0, off.reshape(2, -1)
