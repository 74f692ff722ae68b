"""An optimizer in PyTorch on a small problem, as the checks drive it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from optbench.conformance import Inapplicable
from optbench.conformance.problem import (
    PAIR,
    ROWS,
    Shapes,
    Weight,
    apart,
    batches,
    evenly,
    first,
    leaf_loss,
    signs,
)
from optbench.engines.torch_eager import TorchObjective
from optbench.optimizer import Optimizer
from optbench.protocol import Rule, Setting
from optbench.rules.torch import CurvatureRule, Parameters, SeedNoise, TorchRule

Way = Callable[[torch.optim.Optimizer, dict[str, Any]], Any]
"""How `optimizer.step(**given)` is called."""
NO_OPTIMIZER = "It is no torch.optim.Optimizer, but a function or a composition."


class Objective(TorchObjective):
    """The problem's loss at one step; the gradient of a leaf whose weight is None is missing."""

    def __init__(self, batch: Parameters, weights: Mapping[str, float | None]):
        def loss(params: Parameters) -> torch.Tensor:
            each = {name: 1.0 if weight is None else weight for name, weight in weights.items()}
            return torch.stack([leaf_loss(p, batch[name]) * each[name] for name, p in params.items()]).sum()

        super().__init__(loss)
        self.missing = {name for name, weight in weights.items() if weight is None}

    @torch.enable_grad()
    def value_and_grad(self, params: Parameters) -> tuple[torch.Tensor, Parameters]:
        return self.without(*super().value_and_grad(params))

    @torch.enable_grad()
    def value_and_graph(self, params: Parameters) -> tuple[torch.Tensor, Parameters]:
        return self.without(*super().value_and_graph(params))

    def without(self, loss: torch.Tensor, grads: Parameters) -> tuple[torch.Tensor, Parameters]:
        return loss, {name: grad for name, grad in grads.items() if name not in self.missing}


class Stepped:
    """An optimizer whose `step` is called in another way; a rule takes it for the optimizer."""

    def __init__(self, optimizer: torch.optim.Optimizer, way: Way):
        self.optimizer, self.way = optimizer, way

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)

    def step(self, *closures: Any, **given: Any) -> Any:
        if closures:
            given["closure"] = closures[0]
        return self.way(self.optimizer, given)


class Run(NamedTuple):
    """A path under way: what is trained, the optimizer, and the problem's own numbers."""

    rule: Any
    params: Parameters
    state: Any
    batches: Mapping[str, np.ndarray]
    weight: Weight

    def go(self, steps: int, start: int = 0, way: Way | None = None) -> Run:
        """Steps `start` to `start + steps`."""
        params, state = self.params, self.state
        for t in range(start, start + steps):
            given = state if way is None else Stepped(state, way)
            params = self.rule.step(params, given, self.objective(t), t).params
        return self._replace(params=params)

    def objective(self, t: int) -> Objective:
        rows = {k: torch.tensor(self.batches[k][t % ROWS], dtype=p.dtype) for k, p in self.params.items()}
        weights = {name: self.weight(name, t) for name in self.params}
        if not isinstance(self.rule, TorchRule):  # a function takes all gradients
            weights = {name: w or 0.0 for name, w in weights.items()}
        return Objective(rows, weights)

    def numbers(self) -> dict[str, np.ndarray]:
        return {name: p.detach().to(torch.float64).numpy().copy() for name, p in self.params.items()}

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The torch.optim optimizer, for the checks that are about one."""
        if not isinstance(self.state, torch.optim.Optimizer):
            raise Inapplicable(NO_OPTIMIZER)
        return self.state

    @property
    def group(self) -> dict[str, Any]:
        return self.optimizer.param_groups[0]

    def again(self, made: Callable[[Any], Any] = copy.deepcopy) -> Run:
        """A copy of parameters and optimizer by `made`, which goes on by itself."""
        params, optimizer = made((self.params, self.optimizer))
        return self._replace(params=params, state=optimizer)


class Subject:
    """An optimizer that is checked in PyTorch."""

    def __init__(self, optimizer: Optimizer):
        torch.set_num_threads(1)
        self.optimizer = optimizer

    def rule(self, noise: Any = None) -> Rule:
        """Its rule under a constant schedule, which leaves the learning rate of groups to the check."""
        made: Any = self.optimizer.torch(Setting(lambda t: 1.0, noise or SeedNoise(0), 100))
        given: Any = made
        if isinstance(made, TorchRule):
            given.set_rates = lambda state, t: None
        return made

    def run(
        self, shapes: Shapes = PAIR, dtype: Any = torch.float32, weight: Weight = evenly, noise: Any = None
    ) -> Run:
        values = sorted(first(shapes).items())
        params = {name: torch.tensor(value).to(dtype).requires_grad_() for name, value in values}
        rule = self.rule(noise)
        return Run(rule, params, rule.init(params), batches(shapes), weight)

    def growth(self, shapes: Shapes, steps: int) -> float:
        """How far rounding carries a path: one whose parameters move by 1 +- 2^-52 after each step."""
        runs = [self.run(shapes, torch.float64) for _ in range(2)]
        most = 1e-15
        for t in range(steps):
            runs = [run.go(1, t) for run in runs]
            with torch.no_grad():
                for name, p in runs[1].params.items():
                    p.mul_(1 + 2.0**-52 * torch.from_numpy(signs(name, t, tuple(p.shape))))
            most = max(most, apart(runs[0].numbers(), runs[1].numbers()))
        return most

    @property
    def needs_closure(self) -> bool:
        return bool(getattr(self.rule(), "needs_closure", False))

    @property
    def differentiates(self) -> bool:
        """Whether it takes products with the Hessian."""
        return isinstance(self.rule(), CurvatureRule) or hasattr(self.run().state, "should_create_graph")


def same(one: Run, other: Run) -> bool:
    """Whether two paths are at the same bits."""
    pairs = zip(one.params.values(), other.params.values(), strict=True)
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)
