"""Lanes in PyTorch side by side: one gradient of all lanes by torch.func, one optimizer for each learning rate.

For small tasks, where an eager step is nearly all overhead. The lanes' parameters are stacked [lanes, ...]; lanes
that differ in the seed only lie next to each other and share an optimizer over that part of the stack. So it is
for optimizers that move each number by the history of its own gradient (`Optimizer.elementwise`). The gradient is
taken at a fixed width, padded with lanes that never move, so that no lane's bits depend on who else is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from optbench.engines.lanes import BLOCK, WIDTH, Inputs
from optbench.engines.torch_eager import TorchBackend, packed, state_bytes, unpack
from optbench.protocol import Counts, Rule, Setting
from optbench.rules.torch import Parameters, SeedNoise


class Given:
    """An objective whose gradient has been computed already, for all lanes at once."""

    def __init__(self, loss: torch.Tensor, grads: Parameters):
        self.loss, self.grads = loss, grads

    def value_and_grad(self, params: Parameters) -> tuple[torch.Tensor, Parameters]:
        """The losses and gradients of these lanes."""
        return self.loss, self.grads


@dataclass
class Part:
    """Lanes that differ in the seed only: a part of the stack, and its optimizer."""

    rows: slice
    params: Parameters
    rule: Rule
    state: Any
    counts: Counts = field(default_factory=Counts)

    def step(self, losses: torch.Tensor, grads: Mapping[str, torch.Tensor], t: int) -> None:
        """One step of these lanes."""
        mine = Given(losses[self.rows], {name: grad[self.rows] for name, grad in grads.items()})
        done = self.rule.step(self.params, self.state, mine, t)  # pyright: ignore[reportArgumentType]
        self.state = done.state
        self.counts = Counts(*map(sum, zip(self.counts, done.counts, strict=True)))


class EnsembleBackend(TorchBackend):
    """Advances at most `width` lanes at once."""

    def __init__(self, inputs: Inputs, mode: str, device: torch.device, width: int = WIDTH, *rest: Any):
        super().__init__(inputs, mode, device, width, *rest)
        self.facts["width"] = width

    def start(self) -> None:
        """Stack the lanes' parameters, those of equal numbers side by side, and make the optimizers."""
        arrays, factors = self.inputs.lane_arrays(), self.factors()
        numbers = [tuple(cell.optimizer.lane_numbers().values()) for cell in self.inputs.cells]
        self.count = len(numbers)
        order = sorted(range(self.count), key=lambda lane: numbers[lane])
        self.place = np.argsort(order)
        """The row of each lane."""
        padded = np.array(order + order[:1] * (self.width - self.count))
        self.slots = torch.tensor(arrays["slot"][padded], dtype=torch.int64, device=self.device)
        self.params = self.put({name: stack[padded] for name, stack in arrays["params"].items()})
        self.parts = []
        for value in sorted(set(numbers)):
            members = [lane for lane in order if numbers[lane] == value]
            rows = slice(order.index(members[0]), order.index(members[-1]) + 1)
            params = {name: stack[rows] for name, stack in self.params.items()}
            cell = self.inputs.cells[members[0]]
            rule = cell.optimizer.torch(Setting(factors.__getitem__, SeedNoise(0), cell.steps))
            self.parts.append(Part(rows, params, rule, rule.init(params)))
        self.gradient = torch.func.vmap(torch.func.grad_and_value(self.loss), in_dims=(0, None, 0))
        self.facts["parameters"] = sum(stack[0].numel() for stack in self.params.values())
        self.facts["parameter_bytes"] = sum(stack[0].nbytes for stack in self.params.values())

    def advance(self, start: int, stop: int) -> np.ndarray:
        """Run steps start <= t < stop of all lanes; the losses cross to the host at the end."""
        self.prepare(start)
        first, rows = start % BLOCK, []
        for t in range(start, stop):
            draw = {name: table[self.slots, first + t - start] for name, table in self.draws.items()}
            grads, losses = self.gradient(self.params, self.data, draw)
            for part in self.parts:
                part.step(losses, grads, t)
            rows.append(losses)
        return torch.stack(rows).cpu().numpy()[:, self.place]

    def evaluate(self) -> dict[str, np.ndarray]:
        """Every metric, [lanes]."""
        with torch.no_grad():
            looked = {name: stack.clone() for name, stack in self.params.items()}
            for part in self.parts:
                for name, values in part.rule.evaluated(part.params, part.state).items():
                    looked[name][part.rows] = values
            found = torch.func.vmap(self.evaluated, in_dims=(0, None))(looked, self.data)
        if self.metrics:
            lanes = [{name: stack[row] for name, stack in looked.items()} for row in range(self.width)]
            rows = [
                self.measure(params, slot) for params, slot in zip(lanes, self.slots.tolist(), strict=True)
            ]
            found |= {metric.name: torch.stack([row[metric.name] for row in rows]) for metric in self.metrics}
        return {name: values.cpu().numpy()[self.place] for name, values in found.items()}

    def counts(self) -> Counts:
        """What each lane asked for so far."""
        rows = np.zeros((len(Counts()), self.count), np.int64)
        for part in self.parts:
            rows[:, part.rows] = np.array(part.counts)[:, None]
        return Counts(*rows[:, self.place])

    def save(self) -> list[np.ndarray]:
        """Each part's parameters, optimizer and counts, as bytes."""
        return [packed(part.params, part.state, part.counts) for part in self.parts]

    def restore(self, leaves: list[np.ndarray]) -> None:
        """Go on from saved parts; their parameters are parts of the stack."""
        for part, leaf in zip(self.parts, leaves, strict=True):
            part.counts = unpack(leaf, part.params, part.state)

    def state_bytes(self) -> list[int]:
        """The bytes that each lane's share of its optimizer takes."""
        each = np.zeros(self.count, np.int64)
        for part in self.parts:
            each[part.rows] = state_bytes(part.state) // (part.rows.stop - part.rows.start)
        return each[self.place].tolist()
