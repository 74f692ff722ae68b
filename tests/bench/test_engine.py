"""The engine against hand-written loops that do the same work."""

import numpy as np
import pytest

from tests.bench import baselines
from tests.bench.apart import Apart
from tests.bench.baselines import grid
from tests.bench.clock import ROUNDS


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


def test_steps_a_second(goals):
    """Two workers, each with its sweep, at the same time."""
    cells = grid("rosenbrock_100")
    with Apart(0) as one, Apart(1) as other:
        work = [place.contestant("engine", cells).work for place in (one, other)]
        turns = [[place.go("engine") for place in (one, other)] for _ in range(ROUNDS)]
        rounds = [[done.result()[1] for done in turn] for turn in turns]
    best = max(sum(w / cpu for w, cpu in zip(work, seconds, strict=True)) for seconds in rounds)
    goals.at_least("rosenbrock_100, adam, on 2 cores", best / 1e6, 1, " M steps/s")


@pytest.mark.parametrize(("batch", "least"), [(128, 1.5), (16, 2.5)])
def test_network(batch, least, race, goals):
    timed = race(loops(grid(f"mlp[batch={batch}]", rates=1, seeds=2), "torch"))
    goals.faster(f"mlp, batch {batch}, adam, 2 lanes", timed, "naive", least)
    if batch == 128:
        goals.faster("  the same, against PyTorch", timed, "torch", 3.5)


def test_engine_adds_nothing_to_a_scan(race, goals):
    """One lane of about a second: chunks, buffers, tables and traces against one scan."""
    cells = grid("mlp", rates=1, seeds=1, steps=5000)
    timed = race({name: getattr(baselines, name)(cells) for name in ("engine", "scan")})
    goals.faster("mlp, one cell of a second or more", timed, "scan", 0.98)


def test_memory_of_lanes(goals):
    """Lanes one after the other need the memory of one; side by side each needs its own."""
    cells = grid("mlp", steps=100)
    engine, vmap = baselines.engine(cells).bytes, baselines.vmap(cells).bytes
    goals.at_most(f"mlp, {len(cells)} lanes, memory / vmap", engine / vmap, 1, "x")


@pytest.mark.parametrize("task", ["quadratic_100", "mlp"])
@pytest.mark.parametrize("lanes", [5, 1])
def test_curvature_on_a_schedule(task, lanes, race, goals):
    """A Hessian-vector product every ten steps against none, in lanes or not."""
    steps = 400
    never, often = (
        grid(task, f"esgd[update_d_every={every},d_warmup=1]", 1, lanes, steps) for every in (10 * steps, 10)
    )
    timed = race({"never": baselines.engine(never), "often": baselines.engine(often)})
    goals.costs(f"hvp every 10: {task}, lanes: {lanes}", timed, "often", 1.4)
