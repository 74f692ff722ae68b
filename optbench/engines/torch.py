"""Lanes in PyTorch: an eager loop for each lane, with the same cells, clock and statuses as in JAX.

One thread (the worker sets it). A lane's parameters and its optimizer are its own, so a lane has the bits it has
alone. Losses stay on the device until the end of a chunk.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from optbench.core import Cell, Counts, Noise, Rule, Setting, Trace
from optbench.engines.lanes import BLOCK, Inputs, Keep, Observe, drive
from optbench.rules.torch import Parameters, SeedNoise


class TorchObjective:
    """This batch's loss as a function of the parameters, a dict of leaf tensors."""

    def __init__(self, loss: Callable[[Parameters], torch.Tensor]):
        self.loss = loss

    def value(self, params: Parameters) -> torch.Tensor:
        """The loss, without a graph."""
        with torch.no_grad():
            return self.loss(params)

    def value_and_grad(self, params: Parameters) -> tuple[torch.Tensor, Parameters]:
        """The loss and its gradient."""
        loss = self.loss(params)
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
            loss, list(params.values()), create_graph=graph, allow_unused=True, materialize_grads=True
        )
        return dict(zip(params, grads, strict=True))


class Lane:
    """One cell's parameters, rule and state, and how often it asked for what."""

    def __init__(self, cell: Cell, params: Parameters, noise: int, factors: np.ndarray):
        self.cell, self.params = cell, params
        drawn = SeedNoise(noise) if cell.twin is None else shared_noise(noise)
        setting = Setting(lambda t: float(factors[int(t)]), drawn, cell.steps)
        self.rule: Rule = cell.optimizer.torch(setting)
        self.state = self.rule.init(params)
        self.counts = np.zeros(len(Counts()), np.int64)

    def step(self, objective: TorchObjective, t: int) -> torch.Tensor:
        """One step; the loss before it."""
        done = self.rule.step(self.params, self.state, objective, t)
        self.params, self.state = done.params, done.state
        self.counts += np.array(done.counts, np.int64)
        return done.loss.detach()


def shared_noise(seed: int) -> Noise:
    """The draws that JAX has; jax is imported for a comparison only."""
    from optbench.rules.key_draws import TorchKeyNoise

    return TorchKeyNoise(seed)


class TorchBackend:
    """Advances a group of lanes, one after the other."""

    def __init__(self, inputs: Inputs, device: str):
        self.inputs, self.device = inputs, torch.device({"gpu": "cuda"}.get(device, device))
        self.dtype = getattr(torch, inputs.cell.dtype)
        self.loss, self.metrics = inputs.cell.task.torch()
        self.data = self.put(inputs.cell.task.data())
        self.facts: dict[str, Any] = {"mode": "eager", "compile_seconds": 0.0, "compile_cpu_seconds": 0.0}
        self.block_index = -1

    def put(self, tree: Mapping[str, np.ndarray]) -> Parameters:
        """On the device, with floating-point numbers in the cell's dtype and integers as int64."""
        return {
            name: torch.tensor(
                array, dtype=self.dtype if np.issubdtype(array.dtype, np.floating) else torch.int64
            ).to(self.device)
            for name, array in tree.items()
        }

    def start(self) -> None:
        """Make each lane's parameters and optimizer."""
        arrays, cell = self.inputs.lane_arrays(), self.inputs.cell
        factors = cell.schedule.factors(cell.steps)
        self.slots = arrays["slot"]
        self.lanes = []
        for i, each in enumerate(self.inputs.cells):
            first = self.put({name: stack[i] for name, stack in arrays["params"].items()})
            params = {name: tensor.requires_grad_() for name, tensor in first.items()}
            self.lanes.append(Lane(each, params, int(arrays["noise"][i]), factors))
        self.facts |= self.memory_facts(self.lanes[0])

    def prepare(self, start: int) -> None:
        """Put the draws of the block that holds this step on the device."""
        self.draws_of(start)

    def draws_of(self, t: int) -> Parameters:
        """The draws [seeds, BLOCK, ...] of the block that holds step t."""
        index = t // BLOCK
        if index != self.block_index:
            self.block_index = index
            self.draws = self.put(self.inputs.block(index)["draws"])
        return self.draws

    def advance(self, start: int, stop: int) -> np.ndarray:
        """Run steps start <= t < stop of each lane; the losses cross to the host at the end."""
        draws, base = self.draws_of(start), start // BLOCK * BLOCK
        columns = []
        for lane, slot in zip(self.lanes, self.slots, strict=True):
            losses = []
            for t in range(start, stop):
                draw = {name: table[slot, t - base] for name, table in draws.items()}
                objective = TorchObjective(lambda params, draw=draw: self.loss(params, self.data, draw))
                losses.append(lane.step(objective, t))
            columns.append(torch.stack(losses))
        return torch.stack(columns, dim=1).cpu().numpy()

    def evaluate(self) -> dict[str, np.ndarray]:
        """Every metric, [lanes]."""
        rows = []
        with torch.no_grad():
            for lane in self.lanes:
                rows.append(self.metrics(lane.rule.evaluated(lane.params, lane.state), self.data))
        return {name: torch.stack([row[name] for row in rows]).cpu().numpy() for name in rows[0]}

    def counts(self) -> Counts:
        """What each lane asked for so far."""
        return Counts(*np.stack([lane.counts for lane in self.lanes], axis=1))

    def save(self) -> list[np.ndarray]:
        """Each lane's parameters, optimizer and counts, as bytes."""
        saved = []
        for lane in self.lanes:
            buffer = io.BytesIO()
            params = {name: tensor.detach() for name, tensor in lane.params.items()}
            torch.save((params, lane.state.state_dict(), lane.counts.tolist()), buffer)
            saved.append(np.frombuffer(buffer.getvalue(), np.uint8))
        return saved

    def restore(self, leaves: list[np.ndarray]) -> None:
        """Go on from saved lanes; the optimizers were made over the same parameters by `start`."""
        for lane, leaf in zip(self.lanes, leaves, strict=True):
            params, state, counts = torch.load(io.BytesIO(leaf.tobytes()), weights_only=True)
            with torch.no_grad():
                for name, tensor in lane.params.items():
                    tensor.copy_(params[name])
            lane.state.load_state_dict(state)
            lane.counts = np.array(counts, np.int64)

    @staticmethod
    def memory_facts(lane: Lane) -> dict[str, Any]:
        """Counts and bytes that a record carries; the state's bytes are known after the first step."""
        return {
            "parameters": sum(tensor.numel() for tensor in lane.params.values()),
            "parameter_bytes": sum(tensor.nbytes for tensor in lane.params.values()),
        }


def state_bytes(state: Any) -> int:
    """The bytes of all tensors that an optimizer keeps."""

    def size(value: Any) -> int:
        if isinstance(value, torch.Tensor):
            return value.nbytes
        if isinstance(value, Mapping):
            return sum(map(size, value.values()))
        return sum(map(size, value)) if isinstance(value, list | tuple) else 0

    return size(state.state_dict()["state"])


def run(
    cells: Sequence[Cell],
    mode: str = "eager",
    device: str = "cpu",
    observe: Observe = lambda event, facts: None,
    keep: Callable[[int], Keep | None] = lambda group: None,
) -> list[Trace]:
    """Run cells that share a program; returns their traces in the same order."""
    begun = time.perf_counter()
    inputs = Inputs.of(cells)
    backend = TorchBackend(inputs, device)
    backend.facts["setup_seconds"] = time.perf_counter() - begun
    observe("compiled", backend.facts)
    traces = drive(inputs, backend, observe, keep(0))
    for trace, lane in zip(traces, backend.lanes, strict=True):
        trace.facts["state_bytes"] = state_bytes(lane.state)
    return traces


def device_facts(device: str) -> dict[str, Any]:
    """What kind of device programs run on."""
    if device == "cpu":
        return {"device": "cpu", "device_kind": "cpu", "platform_version": ""}
    name = torch.cuda.get_device_name()
    return {"device": "cuda:0", "device_kind": name, "platform_version": torch.version.cuda or ""}
