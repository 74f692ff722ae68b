"""The engine against hand-written loops that do the same work."""

import numpy as np
import pytest

from optbench import optimizers, tasks
from optbench.core import Cell
from tests.bench import baselines

RATES, SEEDS = 9, 5
"""The quickstart's grid: 45 lanes."""


def grid(task, optimizer="adam", rates=RATES, seeds=SEEDS, steps=None):
    task = tasks.parse(task)
    trials = optimizers.parse(optimizer).trials(rates)
    steps = steps or task.horizon
    return [Cell(task, trial, seed=seed, steps=steps) for trial in trials for seed in range(seeds)]


def loops(cells, *more):
    """The engine and the loops that it is held against; all must do the same work."""
    made = {name: getattr(baselines, name)(cells) for name in ("engine", "naive", "scan", "vmap", *more)}
    first = {name: np.asarray(contestant.call()[:20]) for name, contestant in made.items()}
    for name, losses in first.items():
        np.testing.assert_allclose(losses, first["naive"], rtol=1e-4, err_msg=name)
    return made


@pytest.mark.parametrize(
    ("task", "optimizer", "least"),
    [
        ("rosenbrock_2", "adam", 200),
        ("rosenbrock_2", "sgd", 200),
        ("quadratic_10", "adam", 80),
        ("quadratic_100", "adam", 25),
    ],
)
def test_sweep_of_a_toy(task, optimizer, least, race, goals):
    timed = race(loops(grid(task, optimizer)))
    goals.faster(f"{task}, {optimizer}, 45 lanes", timed, "naive", least)


def test_steps_a_second(race, goals):
    timed = race(loops(grid("rosenbrock_100")))
    goals.at_least("rosenbrock_100, adam, steps a second", 2e-6 / timed.best("engine"), 1, " M on 2 cores")


@pytest.mark.parametrize(("batch", "least"), [(128, 1.5), (16, 2.5)])
def test_network(batch, least, race, goals):
    timed = race(loops(grid(f"mlp[batch={batch}]", rates=1, seeds=4, steps=100), "torch_eager"))
    goals.faster(f"mlp, batch {batch}, adam, 4 lanes", timed, "naive", least)
    if batch == 128:
        goals.faster("  the same against PyTorch, eager", timed, "torch_eager", 3.5)


def test_engine_adds_nothing_to_a_scan(race, goals):
    """One lane of about a second: chunks, buffers, tables and traces against one scan."""
    cells = grid("mlp", rates=1, seeds=1, steps=4000)
    timed = race({name: getattr(baselines, name)(cells) for name in ("engine", "scan")})
    goals.faster("mlp, one cell of a second or more", timed, "scan", 0.98)


@pytest.mark.parametrize("task", ["quadratic_100", "mlp"])
def test_curvature_on_a_schedule(task, race, goals):
    """A Hessian-vector product every ten steps against none, lanes side by side and one after the other."""
    steps = 200
    often, never = (
        grid(task, f"esgd[update_d_every={every},d_warmup=1]", 1, 5, steps) for every in (10, 10 * steps)
    )
    for lanes in (5, 1):
        made = {"engine": baselines.engine(never[:lanes]), "hvps": baselines.engine(often[:lanes])}
        timed = race(made)
        goals.at_most(f"{task}, {lanes} lanes: hvp every 10 steps", timed.ratio("hvps", "engine"), 1.4, "x")
