"""torch.optim classes as Rules, and the noise that PyTorch optimizers draw from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch

from optbench.protocol import Counts, Step
from optbench.rules.torch_optimizer import outside

Parameters = dict[str, torch.Tensor]
Make = Callable[[Iterable[tuple[str, torch.Tensor]]], torch.optim.Optimizer]
Factor = Callable[[int], float]
Probe = Callable[[int, Parameters], Parameters]


class SeedNoise:
    """Draws that depend on (seed, name, step) only, whatever was drawn before; made on the CPU."""

    def __init__(self, seed: int):
        self.seed = seed

    def _generator(self, name: str, step: int) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed}/{name}/{int(step)}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)

    @outside
    def normal(self, name: str, step: int, like: torch.Tensor) -> torch.Tensor:
        draw = torch.randn(like.shape, generator=self._generator(name, step), dtype=torch.float32)
        return draw.to(like)

    @outside
    def uniform(self, name: str, step: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.rand((), generator=self._generator(name, step), dtype=dtype)


class TableNoise(NamedTuple):
    """Draws recorded from an original: name to array [steps, ...]."""

    table: Mapping[str, torch.Tensor]

    def normal(self, name: str, step: int, like: torch.Tensor) -> torch.Tensor:
        return self.table[name][int(step)].to(like)

    def uniform(self, name: str, step: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return self.table[name][int(step)].to(dtype)


class TorchRule:
    """A torch.optim optimizer; its state is the optimizer object itself.

    `make` gets the named parameters. Each step the learning rate of every group is its first value times
    the schedule's factor. An optimizer that says `should_create_graph()` gets gradients with their graph
    on those steps (`create_graph`: on all); one that `needs_closure` gets a closure, and its calls are
    counted. One that has the methods `train` and `eval` (averaging methods move the parameters there and
    back) is evaluated between them.
    """

    def __init__(self, make: Make, factor: Factor, needs_closure: bool = False, create_graph: bool = False):
        self.make, self.factor = make, factor
        self.needs_closure, self.create_graph = needs_closure, create_graph

    def init(self, params: Parameters) -> torch.optim.Optimizer:
        optimizer = self.make(params.items())
        for group in optimizer.param_groups:
            group["optbench_lr"] = group.get("lr")
        self.turn(optimizer, "train")
        return optimizer

    def step(self, params: Any, state: Any, objective: Any, t: Any) -> Step:
        self.set_rates(state, t)
        if self.needs_closure:
            losses: list[torch.Tensor] = []

            def closure() -> torch.Tensor:
                loss, grads = objective.value_and_grad(params)
                set_grads(params, grads)
                losses.append(loss)
                return loss

            state.step(closure)
            return Step(params, state, losses[0], Counts(gradients=len(losses)))
        wants_graph = getattr(state, "should_create_graph", None)
        graph = bool(wants_graph()) if callable(wants_graph) else self.create_graph
        loss, grads = objective.value_and_graph(params) if graph else objective.value_and_grad(params)
        set_grads(params, grads)
        state.step()
        set_grads(params, {})
        return Step(params, state, loss, Counts(gradients=1, hvps=int(graph)))

    def set_rates(self, state: torch.optim.Optimizer, t: int) -> None:
        for group in state.param_groups:
            if group["optbench_lr"] is not None:
                group["lr"] = group["optbench_lr"] * self.factor(t)

    def evaluated(self, params: Parameters, state: torch.optim.Optimizer) -> Parameters:
        """The parameters themselves, or a copy of what the optimizer puts in their place to be evaluated."""
        if not self.turn(state, "eval"):
            return params
        found = {name: parameter.detach().clone() for name, parameter in params.items()}
        self.turn(state, "train")
        return found

    @staticmethod
    def turn(optimizer: torch.optim.Optimizer, mode: str) -> bool:
        turns = [getattr(optimizer, name, None) for name in ("train", "eval")]
        if not all(map(callable, turns)):
            return False
        getattr(optimizer, mode)()
        return True


class ScaledRule(TorchRule):
    """A torch.optim optimizer whose learning rate only says how it starts: the factor scales what it moves."""

    def set_rates(self, state: torch.optim.Optimizer, t: int) -> None:
        """Nothing: the groups keep their first learning rate."""

    def step(self, params: Any, state: Any, objective: Any, t: Any) -> Step:
        before = {name: parameter.detach().clone() for name, parameter in params.items()}
        done = super().step(params, state, objective, t)
        with torch.no_grad():
            for name, parameter in params.items():
                parameter.copy_(before[name].lerp(parameter, self.factor(t)))
        return done


class CurvatureRule(TorchRule):
    """A torch.optim optimizer that is handed a Hessian-vector product on the steps where one is due.

    The optimizer's `step` takes `hvp`, `vector` and `update_preconditioner`, lists in the order of its
    parameters. `due(t)` says whether step t has a product, `probe(t, params)` draws its vector by name.
    """

    def __init__(self, make: Make, factor: Factor, due: Callable[[int], bool], probe: Probe):
        super().__init__(make, factor)
        self.due, self.probe = due, probe

    def step(self, params: Any, state: Any, objective: Any, t: Any) -> Step:
        self.set_rates(state, t)
        due, given = bool(self.due(t)), {}
        if due:
            vector = self.probe(t, {name: p.detach() for name, p in params.items()})
            loss, grads, hvp = objective.value_grad_hvp(params, vector)
            names = [name for group in state.param_groups for name in group["param_names"]]
            given = {"hvp": [hvp[name] for name in names], "vector": [vector[name] for name in names]}
        else:
            loss, grads = objective.value_and_grad(params)
        set_grads(params, grads)
        state.step(**given, update_preconditioner=due)
        set_grads(params, {})
        return Step(params, state, loss, Counts(gradients=1, hvps=int(due)))


def set_grads(params: Parameters, grads: Mapping[str, torch.Tensor]) -> None:
    """Write gradients where torch.optim looks for them; names left out are cleared."""
    for name, parameter in params.items():
        parameter.grad = grads.get(name)
