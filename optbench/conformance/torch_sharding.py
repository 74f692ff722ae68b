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

from optbench.conformance import Inapplicable
from optbench.conformance.problem import ROWS, Shapes, apart, batches, first, leaf_loss
from optbench.conformance.torch import Stepped, Subject
from optbench.conformance.torch_crew import crew, mesh
from optbench.optimizer import Optimizer
from optbench.rules.torch import TorchRule

SHARDED: Shapes = {"a": (1, 4), "b": (7,), "t": (3, 2, 2), "v": (2, 3), "w": (9, 8)}
"""Sizes that no number of processes divides, and fewer rows than processes: some shards are empty."""
STEPS = 5


class Leaves(nn.Module):
    """The problem's parameters; its forward is the loss."""

    def __init__(self, shapes: Shapes):
        super().__init__()
        for name, value in sorted(first(shapes).items()):
            self.register_parameter(name, nn.Parameter(torch.tensor(value)))
        self.rows = batches(shapes)

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

    def __init__(self, optimizer: Optimizer, size: int, shapes: Shapes = SHARDED):
        self.module: Any = Leaves(shapes)
        if size > 1:
            fully_shard(self.module, mesh=mesh(size))
        self.params: Any = dict(self.module.named_parameters())
        self.rule: Any = Subject(optimizer).rule()
        self.state: Any = self.rule.init(self.params)
        self.counted: Counter[str] = Counter()

    def go(self, steps: int, start: int = 0) -> None:
        def way(optimizer: Any, given: dict[str, Any]) -> None:
            with CommDebugMode() as mode:
                optimizer.step(**given)
            counts = mode.get_comm_counts()
            self.counted.update({str(op).rpartition(".")[2]: int(n) for op, n in counts.items()})

        for t in range(start, start + steps):
            self.rule.step(self.params, Stepped(self.state, way), ModuleObjective(self.module, t), t)

    def numbers(self) -> dict[str, np.ndarray]:
        """Gathered on every process."""
        return {
            name: (p.full_tensor() if isinstance(p, DTensor) else p).detach().numpy().copy()
            for name, p in self.params.items()
        }

    def held(self) -> list[torch.Tensor]:
        """The tensors of the state, as they are on this process."""
        return tensors(dict(self.state.state))


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in tensors(part)]


def sharded_path(optimizer: Optimizer, size: int) -> dict[str, Any] | None:
    """On one process of the crew: its path, the bytes it holds, a digest of what it has as others do, collectives."""
    mesh(size)  # by all processes
    if dist.get_rank() >= size:
        return None
    trained = Trained(optimizer, size)
    path = []
    for t in range(STEPS):
        trained.go(1, t)
        path.append(trained.numbers())
    held = trained.held()
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
    if not isinstance(subject.rule(), TorchRule):
        raise Inapplicable("It is no torch.optim.Optimizer, but a function or a composition.")
    if subject.differentiates:
        raise Inapplicable("It differentiates twice, which fully_shard does not.")
    return subject.optimizer


def on(subject: Subject, size: int) -> str:
    """Whether `size` processes go the way of one."""
    optimizer = travels(subject)
    alone = Trained(optimizer, 1)
    ones = []
    for t in range(STEPS):
        alone.go(1, t)
        ones.append(alone.numbers())
    found = crew().call(sharded_path, optimizer, size)[:size]
    bound = subject.bound(SHARDED, STEPS)
    for t in range(STEPS):
        for name, shape in SHARDED.items():
            # The smallest that shows it: the first step, and the first leaf of it.
            gap = apart({name: ones[t][name]}, {name: found[0]["path"][t][name]})
            assert gap <= bound, (
                f"On {size} processes {list(shape)} is {gap:.1e} from one process after step {t + 1}; "
                f"rounding carries a path {bound / 10:.1e}."
            )
    for rank, other in enumerate(found):
        for name, shape in SHARDED.items():
            equal = np.array_equal(found[0]["path"][-1][name], other["path"][-1][name])
            assert equal, (
                f"On {size} processes {list(shape)} differs between 0 and {rank} after {STEPS} steps."
            )
        assert other["replicas"] == found[0]["replicas"], (
            f"On {size} processes state that all of them hold differs between 0 and {rank}."
        )
    whole = sum(x.numel() * x.element_size() for x in alone.held())
    most = max(each["bytes"] for each in found)
    counters = sum(x.numel() for x in alone.held()) <= 4 * len(SHARDED)
    assert counters or most < whole, (
        f"On {size} processes each holds {most} bytes of state, as one alone does: {whole}."
    )
    counts = (
        ", ".join(f"{n / STEPS:g} {op}" for op, n in sorted(found[0]["collectives"].items()))
        or "no collectives"
    )
    return (
        f"On {size} processes it goes as on one; {most} of {whole} bytes of state on each; {counts} a step."
    )


check_fsdp_2 = functools.partial(on, size=2)
check_fsdp_4 = functools.partial(on, size=4)
