"""An optimizer in JAX on a small problem, as the checks drive it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optbench.conformance import Inapplicable
from optbench.conformance.problem import PAIR, ROWS, Shapes, batches, first, leaf_loss
from optbench.engines.jax_program import JaxObjective as Objective
from optbench.optimizer import Optimizer
from optbench.protocol import Setting
from optbench.rules.optax import AskingRule, CurvatureRule, KeyNoise, OptaxRule

STEPS = 4
MOST = 2008
"""Steps that a compiled path has room for; it stops where it is told to, so that all lengths share a program."""


class Subject:
    """An optimizer that is checked in JAX."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        self.whole_path = functools.cache(self.whole_path)
        self.known: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What several checks ask for, made once."""
        if name not in self.known:
            self.known[name] = make()
        return self.known[name]

    def rule(self, rate: Any = None) -> Any:
        """Its rule under a constant schedule, with its own learning rate or another."""
        swept = self.optimizer.swept()
        bound = self.optimizer if rate is None or swept is None else self.optimizer.bind({swept.name: rate})
        return bound.jax(Setting(lambda t: 1.0, KeyNoise.seeded(0), 100))

    def transform(self, rate: Any = None) -> Any:
        rule = self.rule(rate)
        if not isinstance(rule, OptaxRule):
            raise Inapplicable("It is no optax transformation, but a function or a composition.")
        return optax.with_extra_args_support(rule.transform)

    @property
    def differentiates(self) -> bool:
        """Whether it takes products with the Hessian."""
        return isinstance(self.rule(), CurvatureRule)

    def updated(self, transform: Any, params: Any, state: Any, objective: Objective, t: Any) -> Any:
        """New parameters and state, as a user writes the step."""
        rule, extra = self.rule(), {}
        if isinstance(rule, CurvatureRule):
            vector = rule.probe(t, params)
            _, grads, hvp = objective.value_grad_hvp(params, vector)
            extra = {"Hvp": hvp, "vector": vector, "update_preconditioner": True}
        else:
            loss, grads = objective.value_and_grad(params)
            if isinstance(rule, AskingRule):
                extra = {"value": loss, "grad": grads, "value_fn": objective.value}
        updates, state = transform.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    def objective(self, shapes: Shapes, row: Any, weights: Any = None, dtype: Any = jnp.float32) -> Objective:
        rows = {name: jnp.asarray(each, dtype) for name, each in batches(shapes).items()}
        given = weights or {name: jnp.ones(()) for name in shapes}

        def loss(params: Any) -> jax.Array:
            parts = [leaf_loss(p, rows[k][row % ROWS]) * given[k].astype(dtype) for k, p in params.items()]
            return jnp.stack(parts).sum()

        return Objective(loss)

    def start(self, shapes: Shapes = PAIR, dtype: Any = jnp.float32) -> dict[str, jax.Array]:
        return {name: jnp.asarray(value, dtype) for name, value in first(shapes).items()}

    def path(
        self,
        wrap: Callable[[Any], Any] | None = None,
        rows: Sequence[int] = range(STEPS),
        weights: Mapping[str, Any] | None = None,
        shapes: Shapes = PAIR,
        dtype: Any = jnp.float32,
    ) -> dict[str, np.ndarray]:
        """The parameters after each step, [steps, ...]: batches by number, the loss of each leaf with its weights."""
        given = {name: np.ones(len(rows)) for name in shapes} | dict(weights or {})
        program = self.whole_path(wrap, tuple(shapes.items()), jnp.dtype(dtype))
        found = program(len(rows), padded(rows, int), {name: padded(w, float) for name, w in given.items()})
        return {name: np.asarray(value, np.float64)[: len(rows)] for name, value in found.items()}

    def whole_path(self, wrap: Any, shapes: Any, dtype: Any) -> Callable[..., Any]:
        """Compiled, and kept for the next check that takes it."""
        transform, shapes = self.transform(), dict(shapes)
        made = wrap(transform) if wrap else transform

        @jax.jit
        def program(steps: Any, rows: Any, weights: Any) -> Any:
            params = self.start(shapes, dtype)

            def body(t: Any, carry: Any) -> Any:
                params, state, path = carry
                weight = {name: w[t] for name, w in weights.items()}
                objective = self.objective(shapes, rows[t], weight, dtype)
                new, state = self.updated(made, params, state, objective, t)
                return new, state, jax.tree.map(lambda past, p: past.at[t].set(p), path, new)

            path = {name: jnp.zeros((MOST, *p.shape), dtype) for name, p in params.items()}
            return jax.lax.fori_loop(0, steps, body, (params, made.init(params), path))[2]

        return program


def total(rows: Mapping[str, Any], t: Any) -> Objective:
    """The sum of the leaves' losses at a step."""

    def loss(params: Any) -> Any:
        return sum(leaf_loss(p, rows[name][t % ROWS]) for name, p in params.items())

    return Objective(loss)


def padded(values: Any, dtype: type) -> np.ndarray:
    given = np.asarray(values, dtype)
    return np.concatenate([given, np.zeros(MOST - len(given), dtype)])


def last(path: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value[-1] for name, value in path.items()}
