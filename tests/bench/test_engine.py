"""The engine against hand-written loops that do the same work, and its choices of lanes."""

import math
import time

import jax
import jax.numpy as jnp
import pytest

from optbench import plan
from optbench.engines import jax as engine
from optbench.engines.lanes import Inputs
from tests.bench import baselines
from tests.bench.apart import Apart
from tests.bench.baselines import grid, loops
from tests.bench.clock import ROUNDS

LOOPS = ("engine", "naive", "scan", "vmap")
NEAR = 0.9
"""A mode may be this much slower than the other: around the threshold both are as good."""


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
    timed = race(loops(cells, LOOPS))
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
    timed = race(loops(grid(f"mlp[batch={batch}]", rates=1, seeds=2), (*LOOPS, "torch")))
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


@pytest.mark.parametrize(
    "task",
    ["rosenbrock_100", "quadratic_100", "mlp[width=16,batch=8]", "mlp[width=32,batch=16]", "mlp[batch=16]"],
)
def test_the_chosen_mode_is_the_faster(task, race, goals):
    """`plan.VECTORISE_BELOW`: vmap below, map above."""
    cells = grid(task, steps=100)
    ours = plan.choose_mode(cells[0], plan.shapes_of(cells[0]), "cpu")
    other = "map" if ours == "vmap" else "vmap"
    timed = race({mode: baselines.engine(cells, mode) for mode in (ours, other)})
    flops = cells[0].task.flops()
    goals.faster(f"{ours} lanes at {flops / 1e3:.3g} kFLOP a step", timed, other, NEAR)


def test_the_width_of_a_vectorised_step(race, goals, monkeypatch):
    """`WIDTH`: the quickstart's 45 lanes in one group, against groups of another width."""
    cells = grid("quadratic_100", steps=200)
    made = {}
    for width in (engine.WIDTH, 32, 64):
        monkeypatch.setattr(engine, "WIDTH", width)
        groups = math.ceil(len(cells) / width)
        made[f"{width}"] = baselines.engine(cells[: math.ceil(len(cells) / groups)])
    timed = race(made)
    for other in list(made)[1:]:
        goals.faster(f"{len(cells)} lanes, groups of {next(iter(made))}", timed, other, NEAR)


@pytest.mark.parametrize(("task", "steps"), [("mlp", None), ("transformer_tiny", 200)])
def test_engine_adds_little_in_torch(task, steps, race, goals):
    """The same optimizer, with the same options."""
    cells = grid(task, rates=1, seeds=1, steps=steps, framework="torch")
    made = {"engine": baselines.engine(cells), "torch": baselines.torch(cells, foreach=True)}
    goals.faster(f"torch: {task}, adam", race(made), "torch", 1 / 1.03)


@pytest.mark.parametrize(("task", "least"), [("rosenbrock_2", 10), ("quadratic_10", 10)])
def test_ensemble(task, least, race, goals):
    """One gradient of all lanes by torch.func, and one optimizer for each learning rate."""
    cells = grid(task, steps=150, framework="torch")
    made = {"ensemble": baselines.engine(cells, "ensemble"), "eager": baselines.engine(cells[:1], "eager")}
    goals.faster(f"torch: {task}, {len(cells)} lanes", race(made), "eager", least)


def compile_cell(cell):
    """CPU seconds to compile the step of one cell, with its learning rate a constant, as people write it."""
    train, data = baselines.step_of(cell), baselines.device(cell.task.data())
    first = baselines.device(cell.task.init(cell.seed))
    state = baselines.OPTAX[cell.optimizer.name](1.0).init(first)
    draw = {name: table[0] for name, table in baselines.device(cell.task.draws(cell.seed, 0, 1)).items()}

    @jax.jit
    def step(params, state, draw):
        return train(params, state, cell.optimizer.learning_rate, data, draw)

    begun = time.process_time()
    step.lower(first, state, draw).compile()
    return time.process_time() - begun


def compile_grid(cells):
    """CPU seconds of the engine to compile first parameters, steps and evaluation of all cells."""
    (program,) = plan.programs(cells)
    backend = engine.JaxBackend(Inputs.of(program.cells), program.mode, jax.devices("cpu")[0])
    return backend.facts["compile_cpu_seconds"]


@pytest.mark.parametrize(("task", "least"), [("rosenbrock_2", 8), ("mlp", 25)])
def test_grid_compiles_once(task, least, cold, goals):
    """120 cells, for which the goals were set; the saving grows with the cells. Five of them are compiled alone."""
    cells = grid(task, rates=8, seeds=15)
    jnp.ones(3).block_until_ready()
    alone, together = zip(*((compile_cell(cell), compile_grid(cells)) for cell in cells[::24]), strict=True)
    ratio = len(cells) * min(alone) / min(together)
    goals.at_least(f"compile: {task}, {len(cells)} cells", ratio, least, "x per cell")
