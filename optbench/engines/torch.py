"""Lanes in PyTorch, with the same cells, clock and statuses as in JAX.

Three modes:

- `eager`: a loop for each lane, one after the other; each has the bits it has alone. A plan spreads the lanes of
  a program over the workers.
- `ensemble`: one gradient of all lanes by torch.func, for small tasks; other bits than eager.
- `compiled`: as eager, with the loss and its gradient through torch.compile; other bits than eager.

One thread (the worker sets it). Losses stay on the device until the end of a chunk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from optbench import environment
from optbench.cell import DTYPES, Cell
from optbench.engines.lanes import Engine
from optbench.engines.torch_eager import EagerBackend, TorchObjective, placed
from optbench.engines.torch_ensemble import EnsembleBackend
from optbench.rules.torch import Parameters
from optbench.task import Task

BACKENDS = {"eager": EagerBackend, "compiled": EagerBackend, "ensemble": EnsembleBackend}
MATMULS = {"float32": "highest", "tensorfloat32": "high", "bfloat16": "medium"}
"""torch's names for the precisions of matrix products."""


def entered(cell: Cell, platform: str) -> contextlib.AbstractContextManager[torch.device]:
    """The device of a platform; on an accelerator, float32 matrix products get the cell's precision."""
    device = torch.device("cuda" if platform == "gpu" else platform)
    if device.type != "cpu":
        torch.set_float32_matmul_precision(MATMULS[cell.precision])
        torch.backends.cudnn.allow_tf32 = cell.precision != "float32"
    return contextlib.nullcontext(device)


def product(n: int, dtype: str, device: torch.device) -> Callable[[], Any]:
    square = torch.ones((n, n), dtype=getattr(torch, dtype), device=device)

    def multiply() -> None:
        torch.mm(square, square)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return multiply


def watch_memory(platform: str) -> Callable[[], int | None]:
    """A function that gives the most bytes that the device held since now; None where that is not known."""
    if platform == "cpu":
        return environment.watch_memory()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated


def device_facts(platform: str) -> dict[str, Any]:
    if platform == "cpu":
        return {"device": "cpu", "device_kind": "cpu", "platform_version": ""}
    name = torch.cuda.get_device_name()
    return {"device": "cuda:0", "device_kind": name, "platform_version": torch.version.cuda or ""}


def tried(task: Task) -> dict[str, Any]:
    """Shapes and values of the loss, its gradient and the metrics at the first parameters; FLOP of products."""
    from torch.utils.flop_counter import FlopCounterMode

    functions = task.torch()

    def put(tree: dict[str, Any]) -> Parameters:
        return placed({name: np.asarray(each) for name, each in tree.items()}, DTYPES[0], "cpu")

    data, draw = put(task.data()), put({name: table[0] for name, table in task.draws(0, 0, 1).items()})
    params = {name: each.requires_grad_() for name, each in put(task.init(0)).items()}
    with FlopCounterMode(display=False) as counter:
        loss = torch.as_tensor(functions.loss(params, data, draw))
        facts: dict[str, Any] = {"loss_shape": list(loss.shape), "loss": float(loss.sum())}
        if not facts["loss_shape"]:
            grads = TorchObjective.gradient(loss, params, graph=False) if loss.requires_grad else {}
            facts["gradient"] = {name: float(grad.abs().max()) for name, grad in grads.items()}
    # Products alone are counted; what is element-wise is a few operations of each parameter.
    facts["flops"] = float(counter.get_total_flops() + 6 * sum(each.numel() for each in params.values()))
    facts["floats"] = 0
    with torch.no_grad():
        metrics = functions.evaluate(params, data)
    facts["metrics"] = {name: list(torch.as_tensor(value).shape) for name, value in metrics.items()}
    return facts


run = Engine(BACKENDS, entered, device_facts, product).run
