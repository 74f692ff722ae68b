"""Lanes in PyTorch, one after the other: an eager loop for each, in which a lane has the bits it has alone.

In the mode `compiled` the loss and its gradient go through torch.compile; everything that needs a graph of the
gradient (Hessian-vector products) stays eager, because a compiled backward cannot be differentiated again.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from optbench.cell import Cell
from optbench.engines.lanes import BLOCK, WIDTH, Backend, Inputs
from optbench.engines.measured import Stopwatch
from optbench.metrics import Metric
from optbench.protocol import Counts, Noise, Rule, Setting
from optbench.rules.torch import Parameters, SeedNoise

Loss = Callable[[Parameters], torch.Tensor]


class TorchObjective:
    """This batch's loss as a function of the parameters, a dict of leaf tensors."""

    def __init__(self, loss: Loss, quick: Loss | None = None):
        self.loss, self.quick = loss, quick or loss

    def value(self, params: Parameters) -> torch.Tensor:
        """The loss, without a graph."""
        with torch.no_grad():
            return self.loss(params)

    def value_and_grad(self, params: Parameters) -> tuple[torch.Tensor, Parameters]:
        loss = self.quick(params)
        return loss.detach(), self.gradient(loss, params, graph=False)

    def value_and_graph(self, params: Parameters) -> tuple[torch.Tensor, Parameters]:
        """Loss and gradient with `create_graph=True`."""
        loss = self.loss(params)
        return loss.detach(), self.gradient(loss, params, graph=True)

    def value_grad_hvp(
        self, params: Parameters, vector: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, Parameters, Parameters]:
        """Loss, gradient and H v by differentiating the gradient a second time."""
        loss, grads = self.value_and_graph(params)
        product = sum((grads[name] * vector[name]).sum() for name in grads)
        if isinstance(product, torch.Tensor) and product.requires_grad:
            hvp = self.gradient(product, params, graph=False)
        else:  # linear in every parameter
            hvp = {name: torch.zeros_like(tensor) for name, tensor in params.items()}
        return loss, {name: grad.detach() for name, grad in grads.items()}, hvp

    @staticmethod
    def gradient(loss: torch.Tensor, params: Parameters, graph: bool) -> Parameters:
        """The gradient as a dict; zeros where the loss does not depend on a parameter."""
        grads = torch.autograd.grad(
            loss, tuple(params.values()), create_graph=graph, allow_unused=True, materialize_grads=True
        )
        return dict(zip(params, grads, strict=True))


def placed(tree: Mapping[str, np.ndarray], dtype: str, device: torch.device | str) -> Parameters:
    """On the device, with floating-point numbers in a dtype, bytes as they are and integers as int64."""
    kinds = {"f": getattr(torch, dtype), "u1": torch.uint8}
    return {
        name: torch.tensor(
            array, dtype=kinds.get(array.dtype.kind) or kinds.get(array.dtype.str[1:], torch.int64)
        ).to(device)
        for name, array in tree.items()
    }


class Stepped:
    """Parameters that one optimizer steps, of a lane or of several, and its counts so far."""

    def __init__(self, params: Parameters, rule: Rule):
        self.params, self.rule, self.state, self.counts = params, rule, rule.init(params), Counts()

    def evaluated(self) -> Parameters:
        return self.rule.evaluated(self.params, self.state)

    def packed(self) -> np.ndarray:
        """Parameters, optimizer and counts, as bytes."""
        buffer = io.BytesIO()
        detached = {name: tensor.detach() for name, tensor in self.params.items()}
        torch.save((detached, self.state.state_dict(), list(map(int, self.counts))), buffer)
        return np.frombuffer(buffer.getvalue(), np.uint8)

    def unpack(self, leaf: np.ndarray) -> None:
        """Continue from what `packed` gave, in the same tensors."""
        saved, state, counts = torch.load(io.BytesIO(leaf.tobytes()), weights_only=True)
        with torch.no_grad():
            for name, tensor in self.params.items():
                tensor.copy_(saved[name])
        self.state.load_state_dict(state)
        self.counts = Counts(*counts)

    def state_bytes(self) -> int:
        """The bytes of all tensors that the optimizer keeps."""

        def size(value: Any) -> int:
            if isinstance(value, torch.Tensor):
                return value.nbytes
            if isinstance(value, Mapping):
                return sum(map(size, value.values()))
            if isinstance(value, list | tuple):
                return sum(map(size, value))
            return size(vars(value)) if hasattr(value, "__dict__") else 0

        return size(self.state.state_dict()["state"])


class TorchBackend(Backend):
    """What every way of running lanes in PyTorch shares: data and draws on the device, and the record's facts."""

    parts: list[Any]
    """Of type `Stepped`."""

    def __init__(
        self, inputs: Inputs, mode: str, device: Any, width: int = WIDTH, metrics: Sequence[Metric] = ()
    ):
        self.loss, self.task_metrics = inputs.cell.task.torch()
        self.quick = torch.compile(self.loss, dynamic=False) if mode == "compiled" else self.loss
        super().__init__(inputs, mode, device, width, metrics)
        self.facts |= Stopwatch().facts("compile")

    def put(self, tree: Mapping[str, np.ndarray]) -> Parameters:
        return placed(tree, self.inputs.cell.dtype, self.device)

    def put_block(self, block: dict[str, Any]) -> None:
        self.draws = self.put(block["draws"])

    def factors(self) -> list[float]:
        """The schedule's factor at each step, rounded as every number of the cell is."""
        cell = self.inputs.cell
        return cell.schedule.factors(cell.steps).astype(cell.dtype).tolist()

    def measure(self, params: Parameters, slot: int) -> dict[str, torch.Tensor]:
        """The task's metrics at some parameters, and the others on the batch of the first step."""
        with torch.no_grad():
            metrics = {name: value.detach() for name, value in self.task_metrics(params, self.data).items()}
        if self.metrics:
            draw = {name: table[slot] for name, table in self.first_draws.items()}
            leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items()}
            objective = TorchObjective(lambda params: self.loss(params, self.data, draw))
            for metric in self.metrics:
                value = metric.function(leaves, objective)
                metrics[metric.name] = torch.as_tensor(value, device=self.device).detach()
        return metrics

    def describe(self, params: Parameters) -> None:
        """Note the size of one lane's parameters."""
        self.facts["parameters"] = sum(tensor.numel() for tensor in params.values())
        self.facts["parameter_bytes"] = sum(tensor.nbytes for tensor in params.values())

    def save(self) -> list[np.ndarray]:
        return [part.packed() for part in self.parts]

    def restore(self, leaves: list[np.ndarray]) -> None:
        for part, leaf in zip(self.parts, leaves, strict=True):
            part.unpack(leaf)


class Lane(Stepped):
    """One cell's parameters and optimizer, and the loss of the current step's batch."""

    def __init__(self, cell: Cell, params: Parameters, setting: Setting, backend: EagerBackend):
        super().__init__(params, cell.optimizer.torch(setting))
        self.draw: Parameters = {}
        self.objective = TorchObjective(
            lambda params: backend.loss(params, backend.data, self.draw),
            lambda params: backend.quick(params, backend.data, self.draw),
        )

    def advance(self, draws: Parameters, start: int, stop: int) -> torch.Tensor:
        """Run the steps start <= t < stop, whose draws are given; the losses before each."""
        names, losses = tuple(draws), []
        gradients, hvps, values = self.counts
        # A table is taken apart once for all steps: an index into it costs as much as an operation of the loss.
        tables = [table.unbind() for table in draws.values()]
        rows = zip(*tables, strict=True) if tables else itertools.repeat(())
        for t, row in zip(range(start, stop), rows, strict=False):
            self.draw = dict(zip(names, row, strict=True))
            self.params, self.state, loss, used = self.rule.step(self.params, self.state, self.objective, t)
            gradients, hvps, values = gradients + used[0], hvps + used[1], values + used[2]
            losses.append(loss)
        self.counts = Counts(gradients, hvps, values)
        return torch.stack(losses).detach()


def shared_noise(seed: int) -> Noise:
    """The draws that JAX has; jax is imported for a comparison only."""
    from optbench.rules.key_draws import TorchKeyNoise

    return TorchKeyNoise(seed)


class EagerBackend(TorchBackend):
    """Advances a group of lanes, one after the other."""

    def start(self) -> None:
        arrays, factors = self.inputs.lane_arrays(), self.factors()
        noise_of = SeedNoise if self.inputs.cell.twin is None else shared_noise
        self.slots = arrays["slot"].tolist()
        self.parts = []
        for i, (cell, noise) in enumerate(zip(self.inputs.cells, arrays["noise"].tolist(), strict=True)):
            first = self.put({name: stack[i] for name, stack in arrays["params"].items()})
            params = {name: tensor.requires_grad_() for name, tensor in first.items()}
            setting = Setting(factors.__getitem__, noise_of(noise), cell.steps, cell.task.roles())
            self.parts.append(Lane(cell, params, setting, self))
        self.describe(self.parts[0].params)
        if self.mode == "compiled":  # take one gradient that nobody uses, so that it compiles off the clock
            with Stopwatch() as compiling:
                self.prepare(0)
                lane = self.parts[0]
                lane.draw = {name: table[self.slots[0], 0] for name, table in self.draws.items()}
                lane.objective.value_and_grad(lane.params)
            self.facts |= compiling.facts("compile")

    def advance(self, start: int, stop: int) -> np.ndarray:
        span = slice(start % BLOCK, start % BLOCK + stop - start)
        columns = [
            lane.advance({name: table[slot, span] for name, table in self.draws.items()}, start, stop)
            for lane, slot in zip(self.parts, self.slots, strict=True)
        ]
        return torch.stack(columns, dim=1).cpu().numpy()

    def evaluate(self) -> dict[str, np.ndarray]:
        with torch.no_grad():
            points = [lane.evaluated() for lane in self.parts]
        rows = [self.measure(params, slot) for params, slot in zip(points, self.slots, strict=True)]
        return {name: torch.stack([row[name] for row in rows]).cpu().numpy() for name in rows[0]}

    def counts(self) -> Counts:
        return Counts(*np.array([lane.counts for lane in self.parts], np.int64).T)

    def state_bytes(self) -> list[int]:
        return [lane.state_bytes() for lane in self.parts]
