"""The engine against hand-written loops that do the same work."""

import numpy as np
import pytest

from tests.bench import baselines
from tests.bench.baselines import grid


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
    cells = grid(task, optimizer)
    timed = race(loops(cells))
    goals.faster(f"{task}, {optimizer}, {len(cells)} lanes", timed, "naive", least)


def test_steps_a_second(race, goals):
    timed = race(loops(grid("rosenbrock_100")))
    goals.at_least("rosenbrock_100, M steps/s, 2 cores", 2e-6 / timed.best("engine"), 1, "")


@pytest.mark.parametrize(("batch", "least"), [(128, 1.5), (16, 2.5)])
def test_network(batch, least, race, goals):
    timed = race(loops(grid(f"mlp[batch={batch}]", rates=1, seeds=2), "torch"))
    goals.faster(f"mlp, batch {batch}, adam, 2 lanes", timed, "naive", least)
    if batch == 128:
        goals.faster("  the same, against PyTorch", timed, "torch", 3.5)


def test_engine_adds_nothing_to_a_scan(race, goals):
    """One lane of about a second: chunks, buffers, tables and traces against one scan."""
    cells = grid("mlp", rates=1, seeds=1, steps=4000)
    timed = race({name: getattr(baselines, name)(cells) for name in ("engine", "scan")})
    goals.faster("mlp, one cell of a second or more", timed, "scan", 0.98)


def test_memory_of_lanes(goals):
    """Lanes one after the other need the memory of one; side by side each needs its own."""
    cells = grid("mlp", steps=100)
    engine, vmap = baselines.engine(cells).bytes, baselines.vmap(cells).bytes
    goals.at_most(f"mlp, {len(cells)} lanes, memory / scan+vmap", engine / vmap, 1, "x")


@pytest.mark.parametrize("task", ["quadratic_100", "mlp"])
@pytest.mark.parametrize("lanes", [5, 1])
def test_curvature_on_a_schedule(task, lanes, race, goals):
    """A Hessian-vector product every ten steps against none, in lanes or not."""
    steps = 200
    never, often = (
        grid(task, f"esgd[update_d_every={every},d_warmup=1]", 1, lanes, steps) for every in (10 * steps, 10)
    )
    timed = race({"never": baselines.engine(never), "often": baselines.engine(often)})
    goals.at_most(f"hvp every 10: {task}, lanes: {lanes}", timed.ratio("often"), 1.4, "x")
