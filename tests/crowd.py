"""A made-up comparison of forty optimizers on twelve tasks, for pages of the size that `make grand` gives.

python -m tests.crowd FOLDER            # <FOLDER>/suite.py and <FOLDER>/results
optbench report --suite FOLDER/suite.py --results FOLDER/results
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optbench import tuning
from optbench.cell import Cell, Status, Trace
from optbench.protocol import Counts
from optbench.stats import stages
from optbench.store import Store
from optbench.suite import Suite

OPTIMIZERS = (
    "kron", "adam", "sgd", "novograd", "esgd", "expectigrad", "xmat", "lra", "affine", "adamw", "momentum", "nesterov",
    "rmsprop", "lion", "muon", "normuon", "soap", "shampoo", "scion", "dion", "mars", "adam_mini", "adopt", "adan",
    "prodigy", "schedule_free_sgd", "schedule_free_adamw", "ademamix", "lamb", "lars", "sophia", "yogi", "sm3", "radam",
    "nadam", "adagrad", "adabelief", "kron_dq", "madgrad", "adamw+cautious",
)  # fmt: skip
TASKS = (
    "rosenbrock_2", "rosenbrock_100", "quadratic_10", "quadratic_100_1e6", "mlp", "autoencoder", "xor_rnn_32",
    "resnet_quick", "resnet_tiny", "transformer_8", "transformer_tiny",
    "transformer[context=16,d_model=32,heads=2,layers=1,batch=8]",
)  # fmt: skip
STEPS = 200
FILE = '''"""Which of forty optimizers leads on twelve tasks, and how sure is that?

All made up.
"""

from tests.crowd import suite

suite = suite({fresh}, **{fields})
'''
MACHINE = {
    "optbench_version": "0.1.0", "commit": "0123456789ab", "python": "3.11.7", "platform": "Linux", "threads": 1,
    "cpu_model": "Made-up CPU", "device": "cpu:0", "device_kind": "cpu", "mode": "vmap",
}  # fmt: skip
METRICS = (
    "train_loss", "validation_loss", "validation_error", "test_error", "test_loss", "validation_mse", "test_mse",
)  # fmt: skip


def suite(
    fresh: bool = False,
    tasks: tuple[str, ...] = TASKS,
    optimizers: tuple[str, ...] = OPTIMIZERS,
    **fields: Any,
) -> Suite:
    from optbench.optimizers import parse as optimizer
    from optbench.tasks import parse as task

    things = tuple(map(task, tasks)), tuple(map(optimizer, optimizers))
    return Suite("crowd", *things, **{"seeds": 5, "choosing": 2, **fields}, steps=STEPS, fresh=fresh)


def run(cell: Cell, quality: float, draw: np.random.Generator) -> Trace:
    """A made-up lane: its loss falls the farther, the nearer its learning rate is to its optimizer's best."""
    swept = cell.optimizer.swept()
    place = 0.0
    if swept is not None:
        low, high = swept.metadata["sweep"]
        place = math.log(getattr(cell.optimizer, swept.name) / low) / math.log(high / low)
    aside = place - (0.35 + 0.4 * quality)
    if aside > 0.45:
        losses = np.append(np.linspace(1, 50, 8), math.inf)
        evaluations = {name: losses[:1] for name in METRICS}
        return Trace(
            cell, Status.DIVERGED, "", losses, np.array([0], np.int32), evaluations, Counts(8), facts(cell)
        )
    depth = (0.6 + 0.7 * quality) * math.exp(-((aside / 0.35) ** 2))
    goals = [target.value for target in cell.task.targets() if target.metric == cell.task.selection] or [
        0.5,
        0.05,
    ]
    start = max(2 * goals[0], 1.0)
    steps = np.arange(STEPS)
    noise = draw.normal(0, 0.15 if cell.task.seeded else 0, STEPS) / (1 + steps / 20)
    fall = depth * math.log(goals[-1] / start) * np.log1p(steps / 5) / math.log1p(STEPS / 5)
    losses = start * np.exp(fall + noise - noise[0])
    losses *= np.exp(draw.normal(0, 0.05) * (steps > 0))
    at = np.array([step for step in cell.task.evaluation_steps(STEPS) if step < STEPS], np.int32)
    names = ("loss",) if cell.task.selection == "loss" else METRICS
    scales = {
        "validation_error": 0.2,
        "test_error": 0.21,
        "train_loss": 0.9,
        "test_loss": 1.1,
        "validation_mse": 0.05,
        "test_mse": 0.05,
    }
    evaluations = {name: scales.get(name, 1.0) * losses[at] for name in names}
    return Trace(cell, Status.DONE, "", losses, at, evaluations, Counts(int(at[-1])), facts(cell))


def facts(cell: Cell) -> dict:
    cost = 1 + len(cell.optimizer.name) % 7
    size = 40_000 if not cell.task.toy else 80
    return {
        "program_seconds": 2e-4 * cost * STEPS, "program_cpu_seconds": 2e-4 * cost * STEPS, "compile_seconds": 1.0,
        "evaluation_seconds": 0.1, "lanes": 4, "parameters": size // 4, "program_steps": STEPS,
        "seconds_per_step": 2e-4 * cost, "state_floats_per_parameter": float(cost), "parameter_bytes": size,
        "state_bytes": size * cost, "program_bytes": size * 50, "worker_peak_bytes": 400_000_000,
    }  # fmt: skip


def make(folder: Path, fresh: bool = False, **fields: Any) -> Path:
    """Write a store and its suite; with `fresh`, winners and untuned defaults on fresh seeds too. Returns the suite."""
    whole = suite(fresh, **fields)
    draw = np.random.default_rng(0)
    quality = {each.label(): draw.beta(2, 2) for each in whole.optimizers}
    own = {(task, name): draw.normal(0, 0.12) for task in whole.tasks for name in quality}
    traces = []

    def lane(cell: Cell, name: str) -> Trace:
        level = min(1.0, max(0.0, quality[name] + own[cell.task, name]))
        traces.append(trace := run(cell, level, draw))
        return trace

    for task, setting, optimizer in whole.asked():
        for trial in whole.trials_of(optimizer):
            count = whole.seeds if not fresh else whole.choosing or whole.seeds
            for seed in tuning.seeds(0, count, task.seeded):
                lane(whole.cell(task, setting, trial.at, seed), optimizer.label())
    store = Store(folder / "results")
    store.prepare()
    write(store, traces)
    if fresh:
        found = stages.staged([store.frame()], whole.optimizers, whole)
        best = {(key[0], key[-1]): place for key, place in stages.winning(found).items()}
        traces.clear()
        for key in whole.asked():
            [won] = [
                each.at
                for each in whole.trials_of(key[2])
                if each.place == best[key[0].label(), key[2].label()]
            ]
            for at in dict.fromkeys((won, key[2])):
                for cell in whole.reporting({key: at}):
                    lane(cell, key[2].label())
        write(store, traces)
    path = folder / "suite.py"
    path.write_text(FILE.format(fresh=fresh, fields=fields))
    return path


def write(store: Store, traces: Sequence[Trace]) -> None:
    """A file for each task and optimizer, as a run leaves them."""
    programs: dict[tuple, dict[str, Trace]] = {}
    for trace in traces:
        programs.setdefault((trace.cell.task, trace.cell.optimizer.name), {})[trace.cell.id()] = trace
    for program in programs.values():
        store.write(list(program.values()), MACHINE)


if __name__ == "__main__":
    print(make(Path(sys.argv[1]), fresh="--fresh" in sys.argv))
