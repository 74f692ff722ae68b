"""When kron fits its preconditioner, and what that costs over a training."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench import optimizers
from optbench.claims.programs.clock import interleaved
from optbench.claims.programs.training import Training
from optbench.optimizers.kron.jax import kron, precond_update_prob_schedule
from optbench.protocol import Setting
from optbench.rules.optax import KeyNoise


def update_steps(steps: int, constants: list[float], marks: list[int], window: int) -> dict[str, Any]:
    """The default schedule, the steps on which kron really fits, and the same for constant probabilities."""
    probability = np.asarray(jax.vmap(precond_update_prob_schedule())(jnp.arange(1, steps + 1)))
    least = probability.min()
    real = np.asarray(fits(steps, None))
    drawn = np.asarray(fits(steps, precond_update_prob_schedule(), upstream="0.2.7"))
    at = np.asarray(jax.lax.map(lambda p: fits(200, p), jnp.array(constants)))
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


def fits(steps: int, probability: Any, **options: Any) -> jax.Array:
    """Whether each step fits the preconditioner, bool [steps]: the factors change where they are fitted."""
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
    training = Training(problem, steps, 1)
    fitted = loop(training, "kron")
    cases = {
        "gradient": loop(training, "sgd"),
        "applied": lambda steps: fitted(steps, preconditioner_update_probability=NEVER),
        "fitted": lambda steps: fitted(steps, preconditioner_update_probability=1.0),
    }
    seconds = interleaved(cases, steps, rounds)
    return {"microseconds": {name: 1e6 * value for name, value in seconds.items()}, "problem": problem}


def loop(training: Training, name: str) -> Any:
    """A compiled loop of so many steps of an optimizer on one batch; hyperparameters are arguments of it."""
    optimizer, (objective, first) = optimizers.parse(name), training.batch()

    @jax.jit
    def run(steps: Any, numbers: Any) -> Any:
        rule = optimizer.bind(numbers).jax(Setting(lambda t: 1.0, KeyNoise.seeded(0), training.steps))

        def body(t: Any, carry: Any) -> Any:
            params, state = carry
            done = rule.step(params, state, objective, t)
            return done.params, done.state

        return jax.lax.fori_loop(0, steps, body, (first, rule.init(first)))[0]

    return lambda steps, **numbers: jax.block_until_ready(run(steps, numbers))
