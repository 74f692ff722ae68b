"""The steps on which kron fits its preconditioner, and the cost over a training."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench import optimizers
from optbench.optimizers.kron.jax import kron, precond_update_prob_schedule

from . import interleaved
from .training import Training, built, stepping

NEVER = 1e-9
"""An update probability without a fit in any training."""


def update_steps(steps: int, constants: list[float], marks: list[int], window: int) -> dict[str, Any]:
    """The default schedule, the measured fits of kron, and the steps between fits for constant probabilities."""
    probability = np.asarray(jax.vmap(precond_update_prob_schedule())(jnp.arange(1, steps + 1)))
    least = probability.min()
    real = np.asarray(fits(steps, None))
    drawn = np.asarray(fits(steps, precond_update_prob_schedule(), upstream="0.2.7"))
    rows = np.asarray(jax.lax.map(lambda p: fits(200, p), jnp.array(constants)))
    gaps = [int(np.diff(np.flatnonzero(row))[-1]) for row in rows]
    return {
        "flat_until": int(np.flatnonzero(probability == 1)[-1]) + 1,
        "least": float(least),
        "least_at": int(np.argmax(probability == least)) + 1,
        "fits": {str(mark): int(real[:mark].sum()) for mark in marks},
        "promised": {str(mark): float(probability[:mark].sum()) for mark in marks},
        "drawn": {str(mark): int(drawn[:mark].sum()) for mark in marks},
        "every": dict(zip(map("{:g}".format, constants), gaps, strict=True)),
        "curve": {
            "step": list(range(window, steps + 1, window)),
            "probability": probability[window - 1 :: window].tolist(),
            "rate": real.reshape(-1, window).mean(axis=1).tolist(),
        },
    }


def fits(steps: int, probability: Any, **options: Any) -> jax.Array:
    """Whether the factors change at each step, bool [steps]."""
    optimizer: Any = kron(preconditioner_update_probability=probability, **options)

    def step(state: Any, t: Any) -> Any:
        _, new = optimizer.update(jnp.array([1.0, -2.0]) * (1 + 0.1 * jnp.sin(1.0 * t)), state)
        before, after = (s[0]["Qs_preconditioners"][0] for s in (state, new))
        return new, jnp.any(before != after)

    return jax.lax.scan(step, optimizer.init(jnp.ones(2)), jnp.arange(steps))[1]


def update_cost(problem: str, steps: int, rounds: int) -> dict[str, Any]:
    """CPU microseconds of a step: the gradient alone, with the preconditioner applied, and with it fitted."""
    training = Training(problem, steps, 1)
    fitted = loop(training, "kron")
    cases = {
        "gradient": loop(training, "sgd"),
        "applied": lambda steps: fitted(steps, preconditioner_update_probability=NEVER),
        "fitted": lambda steps: fitted(steps, preconditioner_update_probability=1.0),
    }
    return {"microseconds": interleaved(cases, steps, rounds), "problem": problem}


def loop(training: Training, name: str) -> Any:
    """A compiled loop of an optimizer on one batch; steps and hyperparameters are its arguments."""
    optimizer, (objective, first) = optimizers.parse(name), training.batch()

    @jax.jit
    def run(steps: Any, numbers: Any) -> Any:
        rule = built(optimizer, numbers, steps=training.steps)
        return jax.lax.fori_loop(0, steps, stepping(rule, lambda t: objective), (first, rule.init(first)))[0]

    return lambda steps, **numbers: jax.block_until_ready(run(steps, numbers))
