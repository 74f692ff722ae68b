"""When kron fits its preconditioner, and what that costs over a training."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench import optimizers
from optbench.claims.programs.clock import interleaved
from optbench.core import Setting
from optbench.engines.jax_program import JaxObjective
from optbench.optimizers.kron.jax import kron, precond_update_prob_schedule
from optbench.rules.optax import KeyNoise
from optbench.tasks import parse as task


def update_steps(steps: int, constants: list[float], marks: list[int], window: int) -> dict[str, Any]:
    """The default schedule, the steps on which kron really fits, and the same for constant probabilities."""
    probability = np.asarray(jax.vmap(precond_update_prob_schedule())(jnp.arange(1, steps + 1)))
    least = probability.min()
    real = fits(steps, None)
    drawn = fits(steps, precond_update_prob_schedule(), upstream="0.2.7")
    at = np.asarray(jax.lax.map(lambda p: fitting(200, p), jnp.array(constants)))
    return {
        "flat_until": int(np.flatnonzero(probability == 1)[-1]) + 1,
        "least": float(least),
        "least_at": int(np.argmax(probability == least)) + 1,
        "fits": {str(mark): int(real[:mark].sum()) for mark in marks},
        "promised": {str(mark): float(probability[:mark].sum()) for mark in marks},
        "drawn": {str(mark): int(drawn[:mark].sum()) for mark in marks},
        "every": {
            f"{p:g}": int(np.diff(np.flatnonzero(row))[-1]) for p, row in zip(constants, at, strict=True)
        },
        "curve": {
            "step": list(range(window, steps + 1, window)),
            "probability": probability[window - 1 :: window].tolist(),
            "rate": real.reshape(-1, window).mean(axis=1).tolist(),
        },
    }


def fits(steps: int, probability: Any, **options: Any) -> np.ndarray:
    """Whether each step fits the preconditioner, bool [steps]."""
    return np.asarray(fitting(steps, probability, **options))


def fitting(steps: int, probability: Any, **options: Any) -> jax.Array:
    """`fits` of a traced probability: the factors change where they are fitted."""
    optimizer: Any = kron(preconditioner_update_probability=probability, **options)
    params = jnp.ones(2)

    def step(state: Any, t: Any) -> Any:
        _, new = optimizer.update(jnp.array([1.0, -2.0]) * (1 + 0.1 * jnp.sin(1.0 * t)), state)
        before, after = (s[0]["Qs_preconditioners"][0] for s in (state, new))
        return new, jnp.any(before != after)

    return jax.lax.scan(step, optimizer.init(params), jnp.arange(steps))[1]


NEVER = 1e-9
"""An update probability that comes to no fit in any training."""


def update_cost(problem: str, steps: int, rounds: int) -> dict[str, Any]:
    """CPU seconds of a training step: the gradient alone, with the preconditioner applied, and with it fitted."""
    fitted = training(problem, "kron")
    cases = {
        "gradient": training(problem, "sgd"),
        "applied": lambda steps: fitted(steps, preconditioner_update_probability=NEVER),
        "fitted": lambda steps: fitted(steps, preconditioner_update_probability=1.0),
    }
    seconds = interleaved(cases, steps, rounds)
    return {"microseconds": {name: 1e6 * value for name, value in seconds.items()}, "problem": problem}


def training(problem: str, optimizer: str) -> Any:
    """A compiled loop of so many training steps on one batch; hyperparameters are arguments of it."""
    given, method = task(problem), optimizers.parse(optimizer)
    loss = given.jax().loss
    data = jax.tree.map(jnp.asarray, cast(given.data()))
    draw = {name: jnp.asarray(rows[0]) for name, rows in given.draws(0, 0, 1).items()}
    setting = Setting(lambda t: 1.0, KeyNoise.seeded(0), math.inf)  # pyright: ignore[reportArgumentType]
    params = jax.tree.map(jnp.asarray, cast(given.init(0)))
    objective: Any = JaxObjective(lambda p: loss(p, data, draw))

    @jax.jit
    def loop(steps: Any, numbers: Any) -> Any:
        rule = method.bind(numbers).jax(setting)

        def body(t: Any, carry: Any) -> Any:
            params, state = carry
            done = rule.step(params, state, objective, t)
            return done.params, done.state

        return jax.lax.fori_loop(0, steps, body, (params, rule.init(params)))[0]

    return lambda steps, **numbers: jax.block_until_ready(loop(steps, numbers))


def cast(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Floating-point numbers as float32."""
    return {
        name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in arrays.items()
    }
