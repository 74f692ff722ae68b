"""Where lanes side by side beat lanes one after the other, and how many go side by side."""

import math

import pytest

from optbench import plan
from optbench.engines import jax as engine
from tests.bench import baselines
from tests.bench.baselines import grid

NEAR = 0.9
"""A mode may be this much slower than the other: around the threshold both are as good."""


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
