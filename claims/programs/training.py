"""Short trainings whose lanes differ in hyperparameters or in the scale of the first weights."""

import itertools
from collections.abc import Callable
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


def built(optimizer: Optimizer, numbers: Any = None, seed: Any = 0, steps: int = 1) -> Any:
    """An optimizer's rule under a constant schedule, these numbers bound into it."""
    return optimizer.bind(numbers or {}).jax(Setting(lambda t: 1.0, KeyNoise.seeded(seed), steps))


def stepping(rule: Any, objective: Callable[[Any], JaxObjective]) -> Callable[[Any, Any], Any]:
    """The body of a loop over (parameters, state); `objective` gives the loss of step t."""

    def body(t: Any, carry: Any) -> Any:
        after = rule.step(*carry, objective(t), t)
        return after.params, after.state

    return body


def streamed(transform: Any, gradients: np.ndarray, params: Any = None, **more: Any) -> tuple[Any, Any]:
    """The last state and the updates for a stream of gradients [steps, n], in float64."""
    with jax.enable_x64(True):
        g = jnp.asarray(gradients)

        def step(state: Any, g: jax.Array) -> Any:
            updates, state = transform.update(g, state, params, **more)
            return state, updates

        return jax.tree.map(np.asarray, jax.lax.scan(step, transform.init(jnp.zeros_like(g[0])), g))


class Training:
    """A task for a number of steps; `run` trains lanes of one optimizer, one after the other in one program."""

    def __init__(self, problem: str, steps: int, seeds: int):
        self.task, self.steps, self.seeds = task(problem), steps, seeds
        self.functions = self.task.jax()
        self.data = at(single(self.task.data()), 0)
        self.draws = single(*(self.task.draws(seed, 0, steps) for seed in range(seeds)))
        self.first = single(*(self.task.init(seed) for seed in range(seeds)))

    def objective(self, draw: Any) -> JaxObjective:
        return JaxObjective(lambda p: self.functions.loss(p, self.data, draw))

    def batch(self) -> tuple[JaxObjective, dict[str, jax.Array]]:
        """The first batch and the first weights of seed 0."""
        return self.objective(at(at(self.draws, 0), 0)), at(self.first, 0)

    def run(
        self, optimizer: Optimizer, numbers: dict[str, np.ndarray], gains: np.ndarray, metric: str
    ) -> np.ndarray:
        """The final value of a metric, [lanes, seeds]; infinite where it is not finite."""

        def lane(given: Any) -> jax.Array:
            bound, gain, seed = given
            rule, draws = built(optimizer, bound, seed, self.steps), at(self.draws, seed)
            params = {name: gain * first for name, first in at(self.first, seed).items()}
            body = stepping(rule, lambda t: self.objective(at(draws, t)))
            last = jax.lax.fori_loop(0, self.steps, body, (params, rule.init(params)))
            return self.functions.evaluate(rule.evaluated(*last), self.data)[metric]

        def spread(values: np.ndarray) -> jax.Array:
            return jnp.asarray(np.repeat(values, self.seeds), jnp.float32)

        seeds = jnp.tile(jnp.arange(self.seeds), len(gains))
        lanes = ({name: spread(values) for name, values in numbers.items()}, spread(gains), seeds)
        values = np.asarray(jax.jit(lambda lanes: jax.lax.map(lane, lanes))(lanes), float)
        return np.where(np.isfinite(values), values, np.inf).reshape(len(gains), self.seeds)


def at(tables: Any, i: Any) -> Any:
    return {name: table[i] for name, table in tables.items()}


def single(*arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Stacked on the device, floating-point numbers as float32."""
    tables = {name: np.stack([each[name] for each in arrays]) for name in arrays[0]}
    return {name: jnp.asarray(a, jnp.float32 if a.dtype.kind == "f" else None) for name, a in tables.items()}


def hyperparameters(
    problem: str, steps: int, seeds: int, rates: list[float], moved: dict[str, dict[str, list[float]]]
) -> dict[str, Any]:
    """The loss of each seed after moving one hyperparameter, at the learning rate with the least median.

    `moved` maps an optimizer to its hyperparameters and the values that each is moved to.
    """
    training, losses = Training(problem, steps, seeds), {}
    for name, fields in moved.items():
        optimizer = optimizers.parse(name)
        # A hyperparameter with a default schedule starts from its first value.
        defaults = {k: 1.0 if (value := getattr(optimizer, k)) is None else value for k in fields}
        cases = {"default": {}} | {f"{k}={v:g}": {k: v} for k, values in fields.items() for v in values}
        lanes = [{**defaults, **case, "learning_rate": rate} for case in cases.values() for rate in rates]
        numbers = {k: np.array([lane[k] for lane in lanes]) for k in lanes[0]}
        values = training.run(optimizer, numbers, np.ones(len(lanes)), training.task.selection)
        rows = zip(cases, values.reshape(len(cases), len(rates), seeds), strict=True)
        losses[name] = {case: row[np.argmin(np.median(row, axis=1))].tolist() for case, row in rows}
    return losses


def gains(
    problem: str, steps: int, seeds: int, methods: list[str], rates: list[float], scales: list[float]
) -> dict[str, Any]:
    """The final value of the first target's metric for first weights of other sizes, [scales][rates][seeds]."""
    training, final = Training(problem, steps, seeds), {}
    target, lanes = training.task.targets()[0], np.array(list(itertools.product(scales, rates)))
    numbers = {"learning_rate": lanes[:, 1]}
    for name in methods:
        values = training.run(optimizers.parse(name), numbers, lanes[:, 0], target.metric)
        final[name] = values.reshape(len(scales), len(rates), seeds).tolist()
    return {"final": final, "target": target.value, "scales": scales, "rates": rates}
