"""ngc-learn's three rules against the equations of their docstrings, and their defaults."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench.optimizers.ngc.functional import RULES, get_opt_init_fn, get_opt_step_fn

Array = np.ndarray


def equations(steps: int, shape: list[int], seed: int) -> dict[str, Any]:
    """The largest relative distance of our steps from the docstrings' equations, and of NAG's first step from SGD's."""
    rng = np.random.default_rng(seed)
    theta, stream = rng.standard_normal(shape), rng.standard_normal((steps, *shape))
    paths = {name: path(name, theta, stream) for name in REFERENCES}
    want = {name: np.array(rule(theta, stream)) for name, rule in REFERENCES.items()}
    apart = {name: float(np.abs(paths[name] - w).max() / np.abs(w - theta).max()) for name, w in want.items()}
    plain = 0.01 * stream[0]
    first = np.abs(paths["nag"][0] - (theta - plain)).max() / np.abs(plain).max()
    return {"apart": apart, "first nag step over a plain one": float(first)}


def path(name: str, theta: Array, stream: Array) -> Array:
    """Our parameters after each step, in float64."""
    with jax.enable_x64(True):
        parameters, steps = [jnp.asarray(theta)], []
        state, step = get_opt_init_fn(name)(parameters), get_opt_step_fn(name)
        for update in stream:
            state, parameters = step(state, parameters, [jnp.asarray(update)])
            steps.append(np.asarray(parameters[0]))
    return np.array(steps)


def adam(theta: Array, stream: Array) -> list[Array]:
    """g1, g2 and their unbiased forms, with the documented defaults."""
    g1, g2, steps = np.zeros_like(theta), np.zeros_like(theta), []
    for time, update in enumerate(stream, 1):
        g1 = 0.9 * g1 + (1 - 0.9) * update
        g2 = 0.999 * g2 + (1 - 0.999) * update**2
        theta = theta - 0.001 * (g1 / (1 - 0.9**time)) / (np.sqrt(g2 / (1 - 0.999**time)) + 1e-8)
        steps.append(theta)
    return steps


def nag(theta: Array, stream: Array) -> list[Array]:
    """phi, and a momentum that is 0 at the first step, with the step size of the code."""
    previous, steps = np.zeros_like(theta), []
    for time, update in enumerate(stream, 1):
        phi = theta - 0.01 * update
        theta = phi + (phi - previous) * (0.9 if time > 1 else 0.0)
        previous = phi
        steps.append(theta)
    return steps


REFERENCES = {
    "adam": adam,
    "nag": nag,
    "sgd": lambda theta, stream: theta - 0.001 * np.cumsum(stream, axis=0),
}


def defaults() -> dict[str, Any]:
    """The defaults of the three step functions."""
    signatures = {
        name: inspect.signature(inspect.unwrap(step)).parameters for name, (_, step) in RULES.items()
    }
    return {
        name: {p.name: p.default for p in parameters.values() if p.default is not p.empty}
        for name, parameters in signatures.items()
    }
