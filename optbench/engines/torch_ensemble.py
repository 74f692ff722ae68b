"""Lanes in PyTorch side by side: one gradient of all lanes by torch.func, one optimizer for each learning rate.

For small tasks, where an eager step is nearly all overhead. The lanes' parameters are stacked [lanes, ...]; lanes
that differ in the seed only lie next to each other and share an optimizer over that part of the stack, which must be
element-wise. The gradient is taken at a fixed width, padded with lanes that never move, so that no lane's bits depend
on the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from optbench.engines.lanes import BLOCK
from optbench.engines.torch_eager import Stepped, TorchBackend
from optbench.protocol import Counts, Rule, Setting
from optbench.rules.torch import Parameters, SeedNoise


class Part(Stepped):
    """Lanes that differ in the seed only: rows of the stack, and their optimizer."""

    def __init__(self, rows: slice, params: Parameters, rule: Rule):
        super().__init__(params, rule)
        self.rows = rows

    def step(self, losses: torch.Tensor, grads: Mapping[str, torch.Tensor], t: int) -> None:
        """The gradient has been computed already, for all lanes at once."""
        mine = losses[self.rows], {name: grad[self.rows] for name, grad in grads.items()}
        given: Any = SimpleNamespace(value_and_grad=lambda params: mine)
        done = self.rule.step(self.params, self.state, given, t)
        self.state = done.state
        self.counts = Counts(*map(sum, zip(self.counts, done.counts, strict=True)))


class EnsembleBackend(TorchBackend):
    """Advances at most `width` lanes at once."""

    def start(self) -> None:
        """Stack the lanes' parameters, those of equal numbers side by side, and make the optimizers."""
        arrays, cells, factors = self.inputs.lane_arrays(), self.inputs.cells, self.factors()
        numbers = [tuple(cell.optimizer.lane_numbers().values()) for cell in cells]
        order = sorted(range(len(cells)), key=lambda lane: numbers[lane])
        self.row = np.argsort(order)
        """Of each lane."""
        padded = np.array(order + order[:1] * (self.width - len(cells)))
        self.slots = torch.tensor(arrays["slot"][padded], dtype=torch.int64, device=self.device)
        self.params = self.put({name: stack[padded] for name, stack in arrays["params"].items()})
        self.parts, self.part = [], {}
        for value in sorted(set(numbers)):
            members = [lane for lane in order if numbers[lane] == value]
            rows = slice(order.index(members[0]), order.index(members[-1]) + 1)
            params = {name: stack[rows] for name, stack in self.params.items()}
            cell = cells[members[0]]
            rule = cell.optimizer.torch(Setting(factors.__getitem__, SeedNoise(0), cell.steps))
            self.parts.append(Part(rows, params, rule))
            self.part |= dict.fromkeys(members, self.parts[-1])
        self.gradient = torch.func.vmap(torch.func.grad_and_value(self.loss), in_dims=(0, None, 0))
        self.describe({name: stack[0] for name, stack in self.params.items()})

    def advance(self, start: int, stop: int) -> np.ndarray:
        first, rows = start % BLOCK, []
        for t in range(start, stop):
            draw = {name: table[self.slots, first + t - start] for name, table in self.draws.items()}
            grads, losses = self.gradient(self.params, self.data, draw)
            for part in self.parts:
                part.step(losses, grads, t)
            rows.append(losses)
        return torch.stack(rows).cpu().numpy()[:, self.row]

    def evaluate(self) -> dict[str, np.ndarray]:
        with torch.no_grad():
            points = {name: stack.clone() for name, stack in self.params.items()}
            for part in self.parts:
                for name, values in part.evaluated().items():
                    points[name][part.rows] = values
            metrics = torch.func.vmap(self.task_metrics, in_dims=(0, None))(points, self.data)
        if self.metrics:
            rows = [
                self.measure({name: stack[row] for name, stack in points.items()}, slot)
                for row, slot in enumerate(self.slots.tolist())
            ]
            metrics |= {each.name: torch.stack([row[each.name] for row in rows]) for each in self.metrics}
        return {name: values.cpu().numpy()[self.row] for name, values in metrics.items()}

    def counts(self) -> Counts:
        return Counts(*np.array([part.counts for part in self.by_lane()], np.int64).T)

    def state_bytes(self) -> list[int]:
        """Each lane's share of its optimizer."""
        return [part.state_bytes() // (part.rows.stop - part.rows.start) for part in self.by_lane()]

    def by_lane(self) -> list[Part]:
        """The part that each lane is in."""
        return [self.part[lane] for lane in range(len(self.inputs.cells))]
