"""A function of parameters, state, gradients and step as a Rule, in either framework."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from optbench.fields import UserError
from optbench.protocol import Counts, Objective, Step
from optbench.rules.around import plain


class State:
    """A state as an object, as torch's engine saves and measures it."""

    def __init__(self, values: Any):
        self.values = values

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.values}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.values = saved["state"]


class FunctionRule:
    """`step(params, state, grads, t) -> (params, state)`; the state is zeros in the form that it first returns."""

    def __init__(self, function: Callable[..., tuple[Any, Any]], zeros: Callable[[Any], Any]):
        self.function, self.zeros = function, zeros

    def init(self, params: Any) -> Any:
        still = mapped(self.zeros, params)
        slots = defaultdict(lambda: mapped(self.zeros, params))  # what is read is zeros like the parameters
        found: Any = self.function(params, slots, still, 0)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise UserError(f"a step must give (params, state), and gives {type(found).__name__}.")
        moved, state = found
        wanted, given = (shapes_of(tree) for tree in (params, moved))
        if given != wanted:
            raise UserError(f"a step must give parameters as it got them, {wanted}, and gives {given}.")
        return mapped(self.zeros, state)

    def step(self, params: Any, state: Any, objective: Objective, t: Any) -> Step:
        loss, grads = objective.value_and_grad(params)
        params, state = self.function(params, state, grads, t)
        return Step(params, state, loss, Counts(gradients=1))

    def evaluated(self, params: Any, state: Any) -> Any:
        return params


class TorchFunctionRule(FunctionRule):
    """The same in PyTorch: the function sees tensors without a graph, and new leaves take their place."""

    def init(self, params: Any) -> State:
        return State(super().init(plain(params)))

    def step(self, params: Any, state: State, objective: Objective, t: Any) -> Step:
        loss, grads = objective.value_and_grad(params)
        moved, state.values = self.function(plain(params), state.values, grads, t)
        fresh = {name: tensor.detach().requires_grad_() for name, tensor in moved.items()}
        return Step(fresh, state, loss, Counts(gradients=1))


def shapes_of(tree: Any) -> str:
    if not isinstance(tree, dict):
        return type(tree).__name__
    kinds = {
        key: f"{getattr(part, 'dtype', '')}{[*getattr(part, 'shape', ())]}" for key, part in tree.items()
    }
    return ", ".join(f"{key} {kinds[key].removeprefix('torch.')}" for key in sorted(kinds))


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree of dicts, lists and tuples with each leaf mapped; numbers become 0 of their kind."""
    if isinstance(tree, dict):
        return {key: mapped(function, part) for key, part in tree.items()}
    if isinstance(tree, list | tuple):
        parts = [mapped(function, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree if tree is None else tree * 0 if isinstance(tree, int | float) else function(tree)
