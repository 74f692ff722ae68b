"""Short trainings whose lanes differ in more than a suite's do: in hyperparameters, or in the scale of the weights."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench import optimizers
from optbench.engines.jax_program import JaxObjective
from optbench.optimizer import Optimizer
from optbench.protocol import Setting
from optbench.rules.optax import KeyNoise
from optbench.tasks import parse as task


class Training:
    """A task for so many steps; `run` trains lanes of one optimizer, one after the other in one program."""

    def __init__(self, problem: str, steps: int, seeds: int):
        self.task, self.steps, self.seeds = task(problem), steps, seeds
        self.functions = self.task.jax()
        self.data = single(self.task.data())
        draws = [self.task.draws(seed, 0, steps) for seed in range(seeds)]
        self.draws = single({name: np.stack([draw[name] for draw in draws]) for name in draws[0]})
        first = [self.task.init(seed) for seed in range(seeds)]
        self.first = single({name: np.stack([init[name] for init in first]) for name in first[0]})

    def batch(self) -> tuple[Any, dict[str, jax.Array]]:
        """The first batch as an objective, and the first weights: those of seed 0."""
        draw = {name: table[0, 0] for name, table in self.draws.items()}
        objective = JaxObjective(lambda p: self.functions.loss(p, self.data, draw))
        return objective, {name: table[0] for name, table in self.first.items()}

    def run(
        self, optimizer: Optimizer, numbers: dict[str, np.ndarray], gains: np.ndarray, metric: str
    ) -> np.ndarray:
        """The final value of a metric, [lanes, seeds]; infinite where it is not finite."""

        def lane(given: Any) -> jax.Array:
            bound, gain, seed = given
            rule = optimizer.bind(bound).jax(Setting(lambda t: 1.0, KeyNoise.seeded(seed), self.steps))
            params = {name: gain * table[seed] for name, table in self.first.items()}
            draws = {name: table[seed] for name, table in self.draws.items()}

            def body(t: Any, carry: Any) -> Any:
                draw = {name: table[t] for name, table in draws.items()}
                params, state = carry
                objective: Any = JaxObjective(lambda p: self.functions.loss(p, self.data, draw))
                done = rule.step(params, state, objective, t)
                return done.params, done.state

            params, state = jax.lax.fori_loop(0, self.steps, body, (params, rule.init(params)))
            return self.functions.evaluate(rule.evaluated(params, state), self.data)[metric]

        def spread(values: np.ndarray) -> jax.Array:
            return jnp.asarray(np.repeat(values, self.seeds), jnp.float32)

        count = len(gains)
        lanes = (
            {k: spread(v) for k, v in numbers.items()},
            spread(gains),
            jnp.tile(jnp.arange(self.seeds), count),
        )
        found = np.asarray(jax.jit(lambda lanes: jax.lax.map(lane, lanes))(lanes), float)
        return np.where(np.isfinite(found), found, np.inf).reshape(count, self.seeds)


def single(arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """On the device, floating-point numbers as float32."""
    return {
        name: jnp.asarray(array.astype(np.float32) if array.dtype.kind == "f" else array)
        for name, array in arrays.items()
    }


def hyperparameters(
    problem: str, steps: int, seeds: int, rates: list[float], moved: dict[str, dict[str, list[float]]]
) -> dict[str, Any]:
    """What moving one hyperparameter costs when the learning rate is tuned again.

    `moved` maps an optimizer to its hyperparameters and the values that each is moved to. A value is the least median
    over seeds among the learning rates.
    """
    training, found = Training(problem, steps, seeds), {}
    for name, fields in moved.items():
        optimizer = optimizers.parse(name)
        defaults = {field: start(optimizer, field) for field in fields}
        cases = [("default", {})] + [(f"{k}={v:g}", {k: v}) for k, values in fields.items() for v in values]
        lanes = [
            (case, {**defaults, **changes, "learning_rate": rate})
            for (case, changes), rate in itertools.product(cases, rates)
        ]
        numbers = {k: np.array([lane[k] for _, lane in lanes]) for k in (*defaults, "learning_rate")}
        values = training.run(optimizer, numbers, np.ones(len(lanes)), training.task.selection).reshape(
            len(cases), len(rates), seeds
        )
        best = np.argmin(np.median(values, axis=2), axis=1)
        found[name] = {case: values[i, best[i]].tolist() for i, (case, _) in enumerate(cases)}
    return found


def start(optimizer: Optimizer, field: str) -> float:
    """A hyperparameter's default as a number; what is a schedule by default starts from its first value."""
    value = getattr(optimizer, field)
    return 1.0 if value is None else value


def gains(
    problem: str, steps: int, seeds: int, methods: list[str], rates: list[float], scales: list[float]
) -> dict[str, Any]:
    """The final value of the first target's metric for first weights of other sizes, [scales][rates]."""
    training, found = Training(problem, steps, seeds), {}
    target = training.task.targets()[0]
    for name in methods:
        lanes = np.array(list(itertools.product(scales, rates)))
        numbers = {"learning_rate": lanes[:, 1]}
        values = training.run(optimizers.parse(name), numbers, lanes[:, 0], target.metric)
        found[name] = np.median(values, axis=1).reshape(len(scales), len(rates)).tolist()
    return {"final": found, "metric": target.metric, "target": target.value, "scales": scales, "rates": rates}
