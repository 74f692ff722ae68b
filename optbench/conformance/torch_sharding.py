"""PyTorch's fully_shard (FSDP2) on 2 and 4 processes: the path of one process, less state on each, equal replicas."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.utils._pytree import tree_leaves

from optbench.conformance import assume, problem
from optbench.conformance.problem import ROWS, Shapes, batches, first, leaf_loss
from optbench.conformance.torch import NO_OPTIMIZER, Stepped, Subject
from optbench.conformance.torch_crew import mesh, together
from optbench.optimizer import Optimizer
from optbench.rules.torch import TorchRule

SHARDED: Shapes = {"a": (1, 4), "b": (7,), "t": (3, 2, 2), "v": (2, 3), "w": (9, 8)}
"""Sizes that no number of processes divides, and fewer rows than processes: some shards are empty."""
STEPS = 5


class Leaves(nn.Module):
    """The problem's parameters; its forward is the loss."""

    def __init__(self) -> None:
        super().__init__()
        for name, value in first(SHARDED).items():
            self.register_parameter(name, nn.Parameter(torch.tensor(value)))
        self.rows = batches(SHARDED)

    def forward(self, t: int) -> torch.Tensor:
        parts = [leaf_loss(p, torch.tensor(self.rows[name][t % ROWS])) for name, p in self.named_parameters()]
        return torch.stack(parts).sum()


class ModuleObjective:
    """The loss of a module whose gradients come by `backward`, as fully_shard wants."""

    def __init__(self, module: nn.Module, t: int):
        self.module, self.t = module, t

    def value_and_grad(self, params: Any) -> tuple[torch.Tensor, Any]:
        with torch.enable_grad():
            self.module.zero_grad()
            loss = self.module(self.t)
            loss.backward()
        return loss.detach(), {name: p.grad for name, p in params.items()}


class Trained:
    """A module and its optimizer, sharded over some processes or whole on one."""

    def __init__(self, optimizer: Optimizer, size: int):
        self.module: Any = Leaves()
        if size > 1:
            fully_shard(self.module, mesh=mesh(size))
        self.params: Any = dict(self.module.named_parameters())
        self.rule: Any = Subject(optimizer).rule()
        self.state: Any = self.rule.init(self.params)
        self.counted: Counter[str] = Counter()

    def go(self, steps: int, start: int = 0) -> list[dict[str, np.ndarray]]:
        """The parameters after each step."""

        def way(optimizer: Any, given: dict[str, Any]) -> None:
            with CommDebugMode() as mode:
                optimizer.step(**given)
            counts = mode.get_comm_counts()
            self.counted.update({str(op).rpartition(".")[2]: int(n) for op, n in counts.items()})

        path = []
        for t in range(start, start + steps):
            self.rule.step(self.params, Stepped(self.state, way), ModuleObjective(self.module, t), t)
            path.append(self.numbers())
        return path

    def numbers(self) -> dict[str, np.ndarray]:
        """Gathered on every process."""
        return {
            name: (p.full_tensor() if isinstance(p, DTensor) else p).detach().numpy().copy()
            for name, p in self.params.items()
        }

    def held(self) -> list[torch.Tensor]:
        """The tensors of the state, as they are on this process."""
        return [x for x in tree_leaves(dict(self.state.state)) if isinstance(x, torch.Tensor)]


def sharded_path(optimizer: Optimizer, size: int) -> dict[str, Any] | None:
    """On one process of the crew: its path, the bytes it holds, a digest of what it has as others do, collectives."""
    mesh(size)  # by all processes
    if dist.get_rank() >= size:
        return None
    trained = Trained(optimizer, size)
    path, held = trained.go(STEPS), trained.held()
    whole = [x.detach().to(torch.float64).numpy().tobytes() for x in held if not isinstance(x, DTensor)]
    local = [x.to_local() if isinstance(x, DTensor) else x for x in held]
    return {
        "path": path,
        "bytes": sum(x.numel() * x.element_size() for x in local),
        "replicas": hashlib.sha256(b"".join(whole)).hexdigest(),
        "collectives": dict(trained.counted),
    }


def travels(subject: Subject) -> Optimizer:
    """The optimizer, for those that fully_shard's parameters can be given to."""
    assume(isinstance(subject.rule(), TorchRule), NO_OPTIMIZER)
    assume(not subject.differentiates, "It differentiates twice, which fully_shard does not.")
    return subject.optimizer


def on(subject: Subject, size: int) -> str:
    optimizer, where = travels(subject), f"On {size} processes"
    alone = Trained(optimizer, 1)
    ones = alone.go(STEPS)
    found = together(sharded_path, optimizer, size)[:size]
    growth = subject.growth(SHARDED, STEPS)
    problem.as_alone(where, "process", ones, found[0]["path"], [growth] * STEPS, coupled=False)
    for rank, other in enumerate(found):
        for name, shape in SHARDED.items():
            equal = np.array_equal(found[0]["path"][-1][name], other["path"][-1][name])
            assert equal, f"{where} {list(shape)} differs between 0 and {rank} after {STEPS} steps."
        alike = other["replicas"] == found[0]["replicas"]
        assert alike, f"{where} state that all of them hold differs between 0 and {rank}."
    whole = sum(x.numel() * x.element_size() for x in alone.held())
    most = max(each["bytes"] for each in found)
    counters = sum(x.numel() for x in alone.held()) <= 4 * len(SHARDED)
    fewer = counters or most < whole
    assert fewer, f"{where} each holds {most} bytes of state, as one alone does: {whole}."
    counts = ", ".join(f"{n / STEPS:g} {op}" for op, n in sorted(found[0]["collectives"].items()))
    said = f"{counts or 'no collectives'} a step"
    return f"{where} it goes as on one; {most} of {whole} bytes of state on each; {said}."


check_fsdp_2 = functools.partial(on, size=2)
check_fsdp_4 = functools.partial(on, size=4)
