"""Metrics beside a task's own: functions of parameters and objective, evaluated where the parameters are.

    def grad_norm(params, objective):
        loss, grads = objective.value_and_grad(params)
        return sum((g * g).sum() for g in grads.values()) ** 0.5

`params` is a dict of arrays of the framework that runs, `objective` the loss on the batch of the first step (all data,
where steps see no batches) with `value`, `value_and_grad` and `value_grad_hvp`; what is returned is one number. It
becomes a curve of its own name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from optbench.fields import UserError, provenance


@dataclass(frozen=True)
class Metric:
    """A function of parameters and objective, and the name of its curve."""

    name: str
    function: Callable[[Any, Any], Any]

    @classmethod
    def of(cls, function: Callable[[Any, Any], Any], name: str | None = None) -> Metric:
        """Called as the function is."""
        name = name or str(getattr(function, "__name__", type(function).__name__))
        if not re.fullmatch(r"\w+", name):
            raise UserError(f"a metric needs a name, and {function!r} has none. Write it with def.")
        return cls(name, function)

    def key(self) -> str:
        """Its name, and what tells an edited function of a user's own from the older one."""
        return "@".join([self.name, *provenance(self.function).values()])


def grad_norm(params: Any, objective: Any) -> Any:
    """The Euclidean norm of the gradient."""
    _, grads = objective.value_and_grad(params)
    return dot(grads, grads) ** 0.5


def param_norm(params: Any, objective: Any) -> Any:
    """The Euclidean norm of the parameters."""
    return dot(params, params) ** 0.5


POWER_STEPS = 20
"""Hessian-vector products of one value of the sharpness."""


def sharpness(params: Any, objective: Any) -> Any:
    """The Hessian's eigenvalue of largest magnitude, by power iteration from the gradient's direction.

    v <- H v / |H v|, then v^T H v, after 20 products: a lower bound of its magnitude where it has not converged.
    """
    _, vector = objective.value_and_grad(params)
    value = 0.0
    for _ in range(POWER_STEPS):
        norm = dot(vector, vector) ** 0.5 + 1e-30
        vector = {name: part / norm for name, part in vector.items()}
        _, _, product = objective.value_grad_hvp(params, vector)
        value, vector = dot(vector, product), product
    return value


def dot(one: Any, other: Any) -> Any:
    """The inner product of two dicts of arrays."""
    return sum((one[name] * other[name]).sum() for name in one)


LISTED = {function.__name__: Metric.of(function) for function in (grad_norm, param_norm, sharpness)}
"""The metrics that are known by name."""
