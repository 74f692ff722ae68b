"""Lanes in PyTorch, with the same cells, clock and statuses as in JAX.

Three modes:

- `eager`: a loop for each lane, one after the other; each has the bits it has alone. A plan spreads the lanes of
  a program over the workers.
- `ensemble`: one gradient of all lanes by torch.func, for small tasks; other bits than eager.
- `compiled`: as eager, with the loss and its gradient through torch.compile; other bits than eager.

One thread (the worker sets it). Losses stay on the device until the end of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from optbench.core import Cell, Trace
from optbench.engines.lanes import WIDTH, Inputs, Keep, Observe, Saves, drive
from optbench.engines.torch_eager import EagerBackend
from optbench.engines.torch_ensemble import EnsembleBackend


def run(
    cells: Sequence[Cell],
    mode: str = "eager",
    device: str = "cpu",
    observe: Observe = lambda event, facts: None,
    keep: Callable[[int], Keep | None] = lambda group: None,
    width: int = WIDTH,
) -> list[Trace]:
    """Run cells that share a program; returns their traces in the same order."""
    size = width if mode == "ensemble" else len(cells)
    groups = [cells[i : i + size] for i in range(0, len(cells), size)]
    traces: list[Trace] = []
    chosen, saves = torch.device({"gpu": "cuda"}.get(device, device)), Saves()
    for number, group in enumerate(groups):
        inputs = Inputs.of(group)
        backend = (
            EnsembleBackend(inputs, mode, chosen, width)
            if mode == "ensemble"
            else EagerBackend(inputs, mode, chosen)
        )
        observe("compiled", backend.facts)
        made = drive(inputs, backend, observe, keep(number), saves, number == len(groups) - 1)
        for trace, size in zip(made, backend.state_bytes(), strict=True):
            trace.facts["state_bytes"] = size
        traces += made
    return traces


def device_facts(device: str) -> dict[str, Any]:
    """What kind of device programs run on."""
    if device == "cpu":
        return {"device": "cpu", "device_kind": "cpu", "platform_version": ""}
    name = torch.cuda.get_device_name()
    return {"device": "cuda:0", "device_kind": name, "platform_version": torch.version.cuda or ""}
