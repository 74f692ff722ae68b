"""ngc-learn's three rules against the equations of their docstrings, and their defaults."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench.optimizers.ngc.functional import RULES, get_opt_init_fn, get_opt_step_fn

Array = np.ndarray


def equations(steps: int, shape: list[int], seed: int) -> dict[str, Any]:
    """The largest relative distance of our steps from the docstrings' equations, and where NAG's momentum starts."""
    rng = np.random.default_rng(seed)
    theta, stream = rng.standard_normal(shape), rng.standard_normal((steps, *shape))
    gaps, plain = {}, 0.01 * stream[0]
    for name, rule in REFERENCES.items():
        found, want = followed(name, theta, stream), np.array(rule(theta, stream))
        gaps[name] = float(np.abs(found - want).max() / np.abs(want - theta).max())
    first = np.abs(followed("nag", theta, stream[:1])[0] - (theta - plain)).max() / np.abs(plain).max()
    return {"apart": gaps, "first nag step over a plain one": float(first)}


def followed(name: str, theta: Array, stream: Array) -> Array:
    """Our parameters after each step, in float64."""
    with jax.enable_x64(True):
        parameters = [jnp.asarray(theta)]
        state, step, found = get_opt_init_fn(name)(parameters), get_opt_step_fn(name), []
        for update in stream:
            state, parameters = step(state, parameters, [jnp.asarray(update)])
            found.append(np.asarray(parameters[0]))
    return np.array(found)


def adam(theta: Array, stream: Array) -> list[Array]:
    """g1, g2 and their unbiased forms, with the documented defaults."""
    g1, g2, found = np.zeros_like(theta), np.zeros_like(theta), []
    for time, update in enumerate(stream, 1):
        g1 = 0.9 * g1 + (1 - 0.9) * update
        g2 = 0.999 * g2 + (1 - 0.999) * update**2
        theta = theta - 0.001 * (g1 / (1 - 0.9**time)) / (np.sqrt(g2 / (1 - 0.999**time)) + 1e-8)
        found.append(theta)
    return found


def nag(theta: Array, stream: Array) -> list[Array]:
    """phi, and a momentum that is 0 at the first step, with the step size of the code."""
    previous, found = np.zeros_like(theta), []
    for time, update in enumerate(stream, 1):
        phi = theta - 0.01 * update
        theta = phi + (phi - previous) * (0.9 if time > 1 else 0.0)
        previous = phi
        found.append(theta)
    return found


def sgd(theta: Array, stream: Array) -> list[Array]:
    """param - update * lr."""
    return [theta - 0.001 * moved for moved in np.cumsum(stream, axis=0)]


REFERENCES = {"adam": adam, "nag": nag, "sgd": sgd}


def defaults() -> dict[str, Any]:
    """The defaults of the three step functions."""
    found: dict[str, Any] = {}
    for name, (_, step) in RULES.items():
        parameters = inspect.signature(inspect.unwrap(step)).parameters.values()
        found[name] = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return found
