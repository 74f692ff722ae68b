"""Lanes in PyTorch, one after the other: an eager loop for each, in which a lane has the bits it has alone.

In the mode `compiled` the loss and its gradient go through torch.compile; everything that needs a graph of the
gradient (Hessian-vector products) stays eager, because a compiled backward cannot be differentiated again.
"""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from optbench.cell import Cell
from optbench.engines.lanes import BLOCK, WIDTH, Inputs
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
        """The loss and its gradient."""
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


def placed(tree: Mapping[str, np.ndarray], dtype: torch.dtype, device: torch.device) -> Parameters:
    """On the device, with floating-point numbers in a dtype, bytes as they are and integers as int64."""
    kinds = {"f": dtype, "u1": torch.uint8}
    return {
        name: torch.tensor(
            array, dtype=kinds.get(array.dtype.kind) or kinds.get(array.dtype.str[1:], torch.int64)
        ).to(device)
        for name, array in tree.items()
    }


class TorchBackend:
    """What every way of running lanes in PyTorch shares: data and draws on the device, and the record's facts."""

    def __init__(
        self,
        inputs: Inputs,
        mode: str,
        device: torch.device,
        width: int = WIDTH,
        metrics: Sequence[Metric] = (),
    ):
        self.inputs, self.device, self.width = inputs, device, width
        self.dtype = getattr(torch, inputs.cell.dtype)
        (self.loss, self.evaluated), self.metrics = inputs.cell.task.torch(), metrics
        self.data = self.put(inputs.cell.task.data())
        self.first_draws = self.put(inputs.first_draws()) if metrics else {}
        self.facts: dict[str, Any] = {"mode": mode, "compile_seconds": 0.0, "compile_cpu_seconds": 0.0}
        self.block_index = -1

    def put(self, tree: Mapping[str, np.ndarray]) -> Parameters:
        """On the device, in the cell's dtype."""
        return placed(tree, self.dtype, self.device)

    def prepare(self, start: int) -> None:
        """Put the draws of the block that holds this step on the device."""
        index = start // BLOCK
        if index != self.block_index:
            self.block_index = index
            self.draws = self.put(self.inputs.block(index)["draws"])

    def measure(self, params: Parameters, slot: int) -> dict[str, torch.Tensor]:
        """The task's metrics at some parameters, and the others on the batch of the first step."""
        with torch.no_grad():
            found = dict(self.evaluated(params, self.data))
        if self.metrics:
            draw = {name: table[slot] for name, table in self.first_draws.items()}
            leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items()}
            objective = TorchObjective(lambda params: self.loss(params, self.data, draw))
            for metric in self.metrics:
                value = metric.function(leaves, objective)
                found[metric.name] = torch.as_tensor(value, device=self.device).detach()
        return found

    def factors(self) -> list[float]:
        """The schedule's factor at each step, rounded as every number of the cell is."""
        cell = self.inputs.cell
        return cell.schedule.factors(cell.steps).astype(cell.dtype).tolist()


class Lane:
    """One cell's parameters, rule and state, and how often it asked for what."""

    def __init__(self, cell: Cell, params: Parameters, setting: Setting, backend: EagerBackend):
        self.params = params
        self.rule: Rule = cell.optimizer.torch(setting)
        self.state = self.rule.init(params)
        self.counts = Counts()
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
        rows = (
            zip(*(table.unbind() for table in draws.values()), strict=True) if draws else itertools.repeat(())
        )
        for t, row in zip(range(start, stop), rows, strict=False):
            self.draw = dict(zip(names, row, strict=True))
            self.params, self.state, loss, asked = self.rule.step(self.params, self.state, self.objective, t)
            gradients, hvps, values = gradients + asked[0], hvps + asked[1], values + asked[2]
            losses.append(loss)
        self.counts = Counts(gradients, hvps, values)
        return torch.stack(losses).detach()


def shared_noise(seed: int) -> Noise:
    """The draws that JAX has; jax is imported for a comparison only."""
    from optbench.rules.key_draws import TorchKeyNoise

    return TorchKeyNoise(seed)


class EagerBackend(TorchBackend):
    """Advances a group of lanes, one after the other."""

    def __init__(self, inputs: Inputs, mode: str, device: torch.device, *rest: Any):
        super().__init__(inputs, mode, device, *rest)
        self.quick = torch.compile(self.loss, dynamic=False) if mode == "compiled" else self.loss

    def start(self) -> None:
        """Make each lane's parameters and optimizer."""
        arrays, factors = self.inputs.lane_arrays(), self.factors()
        self.slots = arrays["slot"].tolist()
        self.lanes = []
        for i, (cell, noise) in enumerate(zip(self.inputs.cells, arrays["noise"].tolist(), strict=True)):
            first = self.put({name: stack[i] for name, stack in arrays["params"].items()})
            params = {name: tensor.requires_grad_() for name, tensor in first.items()}
            drawn = SeedNoise(noise) if cell.twin is None else shared_noise(noise)
            setting = Setting(factors.__getitem__, drawn, cell.steps)
            self.lanes.append(Lane(cell, params, setting, self))
        params = self.lanes[0].params.values()
        self.facts["parameters"] = sum(tensor.numel() for tensor in params)
        self.facts["parameter_bytes"] = sum(tensor.nbytes for tensor in params)
        if self.quick is not self.loss:
            self.compile()

    def compile(self) -> None:
        """Take one gradient that nobody uses, so that it compiles off the clock."""
        wall, cpu = time.perf_counter(), time.process_time()
        lane = self.lanes[0]
        self.prepare(0)
        lane.draw = {name: table[self.slots[0], 0] for name, table in self.draws.items()}
        lane.objective.value_and_grad(lane.params)
        self.facts["compile_seconds"] = time.perf_counter() - wall
        self.facts["compile_cpu_seconds"] = time.process_time() - cpu

    def advance(self, start: int, stop: int) -> np.ndarray:
        """Run steps start <= t < stop of each lane; the losses cross to the host at the end."""
        self.prepare(start)
        span = slice(start % BLOCK, start % BLOCK + stop - start)
        columns = [
            lane.advance({name: table[slot, span] for name, table in self.draws.items()}, start, stop)
            for lane, slot in zip(self.lanes, self.slots, strict=True)
        ]
        return torch.stack(columns, dim=1).cpu().numpy()

    def evaluate(self) -> dict[str, np.ndarray]:
        """Every metric, [lanes]."""
        with torch.no_grad():
            points = [lane.rule.evaluated(lane.params, lane.state) for lane in self.lanes]
        rows = [self.measure(params, slot) for params, slot in zip(points, self.slots, strict=True)]
        return {name: torch.stack([row[name] for row in rows]).cpu().numpy() for name in rows[0]}

    def counts(self) -> Counts:
        """What each lane asked for so far."""
        return Counts(*np.array([lane.counts for lane in self.lanes], np.int64).T)

    def save(self) -> list[np.ndarray]:
        """Each lane's parameters, optimizer and counts, as bytes."""
        return [packed(lane.params, lane.state, lane.counts) for lane in self.lanes]

    def restore(self, leaves: list[np.ndarray]) -> None:
        """Go on from saved lanes; the optimizers were made over the same parameters by `start`."""
        for lane, leaf in zip(self.lanes, leaves, strict=True):
            lane.counts = unpack(leaf, lane.params, lane.state)

    def state_bytes(self) -> list[int]:
        """The bytes of the tensors that each lane's optimizer keeps."""
        return [state_bytes(lane.state) for lane in self.lanes]


def packed(params: Parameters, state: Any, counts: Counts) -> np.ndarray:
    """Parameters, an optimizer and its counts, as bytes."""
    buffer = io.BytesIO()
    detached = {name: tensor.detach() for name, tensor in params.items()}
    torch.save((detached, state.state_dict(), list(map(int, counts))), buffer)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def unpack(leaf: np.ndarray, params: Parameters, state: Any) -> Counts:
    """Put what was packed back into parameters and optimizer; the counts."""
    saved, saved_state, counts = torch.load(io.BytesIO(leaf.tobytes()), weights_only=True)
    with torch.no_grad():
        for name, tensor in params.items():
            tensor.copy_(saved[name])
    state.load_state_dict(saved_state)
    return Counts(*counts)


def state_bytes(state: Any) -> int:
    """The bytes of all tensors that an optimizer keeps."""

    def size(value: Any) -> int:
        if isinstance(value, torch.Tensor):
            return value.nbytes
        if isinstance(value, Mapping):
            return sum(map(size, value.values()))
        if isinstance(value, list | tuple):
            return sum(map(size, value))
        return size(vars(value)) if hasattr(value, "__dict__") else 0

    return size(state.state_dict()["state"])
