"""The report, from small made-up rows: what it says, what it never drops, and that it says the same again."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from optbench import optimizers, tasks
from optbench.core import Cell, Counts, Schedule, Status, Trace
from optbench.store import Store

FACTS = {
    "optbench_version": "0.1.0", "commit": "0123456789ab", "python": "3.11.7", "version.jax": "0.10.2",
    "platform": "Linux", "cpu_model": "A <fast> CPU", "threads": 1, "device": "cpu:0", "device_kind": "cpu", "mode": "vmap",
}  # fmt: skip
STEPS = 40


def trace(cell: Cell, level: float, status: Status = Status.DONE, reason: str = "") -> Trace:
    """A run whose loss falls from 1 to `level`, a little different for each seed."""
    final = level * (1 + 0.1 * cell.seed)
    ran = {Status.DONE: cell.steps, Status.REACHED: cell.steps // 2, Status.DIVERGED: 5}.get(status, 0)
    if not ran:
        return Trace(cell, status, reason)
    losses = final ** np.linspace(0, 1, ran + 1)
    if status == Status.DIVERGED:
        losses[-1] = math.inf
    at = np.array([step for step in cell.task.evaluation_steps(cell.steps) if step <= ran], np.int32)
    metrics = ("loss",) if cell.task.selection == "loss" else ("train_loss", "validation_loss", "validation_error", "test_error")
    seconds = {"program_seconds": 0.5, "program_steps": ran, "lanes": 4, "parameters": 10, "compile_seconds": 1.25, "evaluation_seconds": 0.1}
    kept = losses[:ran] if status == Status.DONE else losses
    return Trace(cell, status, reason, kept, at, {name: losses[at] for name in metrics}, Counts(int(at[-1])), seconds)


def grid(task="quadratic_10", opt="adam", level=1e-3, seeds=5, statuses=None, trials=4, steps=STEPS, **fields) -> list[Trace]:
    """An optimizer over its learning rates: the second is best; `statuses` maps a trial's place to its status."""
    found = []
    for place, optimizer in enumerate(optimizers.parse(opt).trials(trials)):
        status = (statuses or {}).get(place, Status.DONE)
        for seed in range(seeds):
            cell = Cell(tasks.parse(task), optimizer, seed=seed, steps=steps, **fields)
            found.append(trace(cell, level * 3.0 ** abs(place - 1), status, "RuntimeError: it | broke\n<b>" * (status == "error")))
    return found


def stored(folder, *grids: list[Trace], **facts) -> Store:
    """A store with these, one file each, all finished at the same made-up time."""
    store = Store(folder)
    store.prepare()
    for traces in grids:
        store.write(traces, FACTS | facts)
    return store
