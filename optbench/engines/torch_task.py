"""A task in PyTorch, tried once: what its loss and evaluation give, and what a gradient costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from optbench.cell import DTYPES
from optbench.engines.torch_eager import placed
from optbench.rules.torch import Parameters
from optbench.task import Task


def tried(task: Task) -> dict[str, Any]:
    """Shapes and values of the loss, its gradient and the metrics at the first parameters; FLOP of products."""
    functions = task.torch()

    def put(tree: dict[str, Any]) -> Parameters:
        return placed({name: np.asarray(each) for name, each in tree.items()}, DTYPES[0], "cpu")

    data, draw = put(task.data()), put({name: table[0] for name, table in task.draws(0, 0, 1).items()})
    params = {name: each.requires_grad_() for name, each in put(task.init(0)).items()}
    with FlopCounterMode(display=False) as counter:
        loss = functions.loss(params, data, draw)
        facts: dict[str, Any] = {"loss_shape": list(loss.shape), "loss": float(loss.sum())}
        if not facts["loss_shape"]:
            leaves = tuple(params.values())
            grads = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
            facts["gradient"] = {
                name: float(grad.abs().max()) for name, grad in zip(params, grads, strict=True)
            }
    # Products alone are counted; what is element-wise is a few operations of each parameter.
    facts["flops"] = float(counter.get_total_flops() + 6 * sum(each.numel() for each in params.values()))
    facts["floats"] = 0
    with torch.no_grad():
        metrics = functions.evaluate(params, data)
    facts["metrics"] = {name: list(torch.as_tensor(value).shape) for name, value in metrics.items()}
    return facts
