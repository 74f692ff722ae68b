"""What happens at each step, as types: what an engine gives a rule, and what a rule gives back."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

FRAMEWORKS = ("jax", "torch")


def installed(frameworks: Iterable[str]) -> tuple[str, ...]:
    """Those that can be imported here."""
    return tuple(name for name in frameworks if importlib.util.find_spec(name))


UNWRITTEN = {
    "optimizer": "it has no step. Write jax(self, setting) or torch(self, setting).",
    "task": "it has no loss. Write loss(self, params, batch), or jax(self), or torch(self).",
}
"""What is said of one that is in no framework."""

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each parameter."""


ROLES = ("embedding", "matrix", "head", "vector", "scalar")
"""What a parameter may be; a hidden layer's weights are a matrix, also with more than two axes."""


def role_of(name: str, shape: tuple[int, ...], roles: Mapping[str, str] | None = None) -> str:
    """The role of a parameter: as given by its name, else by the number of its axes."""
    role = (roles or {}).get(name) or ("scalar", "vector", "matrix")[min(len(shape), 2)]
    if role not in ROLES:
        raise ValueError(f"parameter {name} has the role {role!r}; roles are {', '.join(ROLES)}")
    return role


def size(shapes: Shapes) -> int:
    """How many numbers the parameters are."""
    return sum(math.prod(shape) for shape in shapes.values())


class Counts(NamedTuple):
    """What one step asked of the objective: how many loss values, gradients and Hessian-vector products.

    An engine cannot count calls under `jit` (they happen once, at tracing), so a rule says it itself;
    the entries may be traced integers.
    """

    gradients: Any = 0
    hvps: Any = 0
    values: Any = 0


class Step(NamedTuple):
    """What a rule hands back: new parameters and state, the loss before the step, and what it cost."""

    params: Any
    state: Any
    loss: Any
    counts: Counts


class Objective(Protocol):
    """This batch's loss as a function of the parameters only. Engines make it, rules use it."""

    def value(self, params: Any) -> Any:
        """The loss."""
        ...

    def value_and_grad(self, params: Any) -> tuple[Any, Any]:
        """The loss and its gradient."""
        ...

    def value_grad_hvp(self, params: Any, vector: Any) -> tuple[Any, Any, Any]:
        """Loss, gradient and Hessian times `vector`, in one pass."""
        ...


class Noise(Protocol):
    """Random draws, pure in (name, step): from a key, or from a table recorded from an original.

    A source may also have `normals(prefix, step, likes)`, as the function of that name says.
    """

    def normal(self, name: str, step: Any, like: Any) -> Any:
        """Standard normal draws, of the shape and dtype of `like`."""
        ...

    def uniform(self, name: str, step: Any, dtype: Any) -> Any:
        """One draw from [0, 1)."""
        ...


def normals(noise: Noise, prefix: str, step: Any, likes: Mapping[str, Any]) -> dict[str, Any]:
    """Standard normal draws like each of some arrays: at once if the source can, else `prefix.<name>` for each."""
    together = getattr(noise, "normals", None)
    if together is not None:
        return together(prefix, step, likes)
    return {name: noise.normal(f"{prefix}.{name}", step, like) for name, like in likes.items()}


class Rule(Protocol):
    """What happens at each step. After `step`, what you passed is dead: use what is returned."""

    def init(self, params: Any) -> Any:
        """The state before the first step."""
        ...

    def step(self, params: Any, state: Any, objective: Objective, t: Any) -> Step:
        """One step; `t` counts from 0 and is shared by all lanes, so a cadence may branch on it."""
        ...

    def evaluated(self, params: Any, state: Any) -> Any:
        """The parameters to evaluate; averaging methods differ."""
        ...


class Setting(NamedTuple):
    """What a rule is built for: the schedule's factor at step t, the noise, the horizon, and the parameters' roles."""

    factor: Callable[[Any], Any]
    noise: Noise
    steps: int
    roles: Mapping[str, str] = MappingProxyType({})
    """By name, where the shape does not tell it."""
