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

from optbench import environment
from optbench.cell import Cell, Trace
from optbench.engines.lanes import WIDTH, Inputs, Keep, Observe, Saves, drive
from optbench.engines.measured import peak_facts
from optbench.engines.torch_eager import EagerBackend
from optbench.engines.torch_ensemble import EnsembleBackend
from optbench.metrics import Metric

BACKENDS = {"eager": EagerBackend, "compiled": EagerBackend, "ensemble": EnsembleBackend}
CALLED = {"gpu": "cuda"}
"""Platforms that torch has another word for."""
MATMULS = {"float32": "highest", "tensorfloat32": "high", "bfloat16": "medium"}
"""What torch calls the precisions of matrix products."""


def run(
    cells: Sequence[Cell],
    mode: str = "eager",
    device: str = "cpu",
    observe: Observe = lambda event, facts: None,
    keep: Callable[[int], Keep | None] = lambda group: None,
    width: int = WIDTH,
    metrics: Sequence[Metric] = (),
) -> list[Trace]:
    """Run cells that share a program; returns their traces in the same order."""
    size = width if mode == "ensemble" else len(cells)
    groups = [Inputs.of(cells[i : i + size]) for i in range(0, len(cells), size)]
    traces: list[Trace] = []
    chosen, saves = torch.device(CALLED.get(device, device)), Saves()
    set_precision(cells[0], chosen)
    for number, inputs in enumerate(groups):
        backend = BACKENDS[mode](inputs, mode, chosen, width, metrics)
        observe("compiled", backend.facts)
        made = drive(inputs, backend, observe, keep(number), saves, number == len(groups) - 1)
        for trace, size in zip(made, backend.state_bytes(), strict=True):
            trace.facts["state_bytes"] = size
        traces += made
    kind = device_facts(device)["device_kind"]
    peak = peak_facts(cells[0], device, kind, lambda n: product(n, cells[0].dtype, chosen))
    for trace in traces:
        trace.facts |= peak
    return traces


def set_precision(cell: Cell, device: torch.device) -> None:
    """What float32 matrix products are rounded to on an accelerator; on a CPU there is one precision only."""
    if device.type != "cpu":
        torch.set_float32_matmul_precision(MATMULS[cell.precision])
        torch.backends.cudnn.allow_tf32 = cell.precision != "float32"


def product(n: int, dtype: str, device: torch.device) -> Callable[[], Any]:
    """A function that multiplies two n x n matrices and waits for the result."""
    square = torch.ones((n, n), dtype=getattr(torch, dtype), device=device)

    def multiply() -> None:
        torch.mm(square, square)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return multiply


def watch_memory(device: str) -> Callable[[], int | None]:
    """A function that gives the most bytes that the device held since now; None where that is not known."""
    if device == "cpu":
        return environment.watch_memory()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated


def device_facts(device: str) -> dict[str, Any]:
    """What kind of device programs run on."""
    if device == "cpu":
        return {"device": "cpu", "device_kind": "cpu", "platform_version": ""}
    name = torch.cuda.get_device_name()
    return {"device": "cuda:0", "device_kind": name, "platform_version": torch.version.cuda or ""}
