"""Schedules and evaluations: the same for every optimizer and both frameworks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from optbench import optimizers
from optbench.cell import Cell, Schedule, Status
from optbench.engines import jax as jax_engine
from optbench.engines.lanes import BLOCK, Inputs, drive
from optbench.engines.torch_eager import EagerBackend
from optbench.optimizers.sgd import SGD
from optbench.protocol import Setting
from optbench.tasks import MLP
from tests import parity
from tests.contract import TINY_MLP, TINY_QUADRATIC, run
from tests.test_drive import Plain

SCHEDULES = (
    Schedule(),
    Schedule("constant", warmup=0.2),
    Schedule("cosine", warmup=0.1),
    Schedule("wsd", warmup=0.1, decay=0.3),
    Schedule("linear", warmup=0.05),
)
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=Schedule.label)
each_framework = pytest.mark.parametrize("framework", ["jax", "torch"])


@each_schedule
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_frameworks_read_the_same_table(schedule, dtype):
    """To the last bit, also beyond the first block of steps."""
    steps = BLOCK + 60
    inputs = Inputs.of([Cell(TINY_QUADRATIC, SGD(), schedule, dtype=dtype, steps=steps)])
    in_torch = EagerBackend(inputs, "eager", torch.device("cpu")).factors()
    with jax.enable_x64(dtype == "float64"):
        backend = jax_engine.JaxBackend(inputs, "map", jax.devices("cpu")[0])
        parts = []
        for start in (0, BLOCK):
            backend.prepare(start)
            parts.append(np.asarray(backend.shared[0]["factors"]))
        in_jax = np.concatenate(parts)[:steps]
    np.testing.assert_array_equal(np.array(in_torch, dtype), in_jax)
    np.testing.assert_array_equal(in_jax, schedule.factors(steps).astype(dtype))


@each_schedule
@each_framework
def test_sgd_moves_by_exactly_the_factor(schedule, framework):
    """From 0 along a gradient of 4 at a rate of 1/8: a product without rounding, so equal to the last bit."""
    factors = schedule.factors(40).astype(np.float32)
    sgd = SGD(learning_rate=0.125)
    moved = np.empty_like(factors)
    if framework == "jax":
        table = jnp.asarray(factors)
        rule = sgd.jax(Setting(lambda t: table[t], parity.JaxNoise(1), 40))
        objective = parity.JaxObjective(lambda params: 4 * params["x"].sum())

        def body(t, carry):
            state, found = carry
            done = rule.step({"x": jnp.zeros(1)}, state, objective, t)
            return done.state, found.at[t].set(done.params["x"][0])

        state = rule.init({"x": jnp.zeros(1)})
        moved = np.asarray(jax.jit(lambda: jax.lax.fori_loop(0, 40, body, (state, jnp.zeros(40))))()[1])
    else:
        rule = sgd.torch(Setting(factors.tolist().__getitem__, parity.TorchNoise(1), 40))
        params = {"x": torch.zeros(1, requires_grad=True)}
        state = rule.init(params)
        objective = parity.TorchObjective(lambda params: 4 * params["x"].sum())
        for t in range(40):
            with torch.no_grad():
                params["x"].zero_()
            rule.step(params, state, objective, t)
            moved[t] = params["x"].item()
    np.testing.assert_array_equal(moved, -factors / 2)


@pytest.mark.parametrize("optimizer", optimizers.names().values(), ids=lambda optimizer: optimizer.name)
def test_who_is_not_proportional_says_why(optimizer):
    assert optimizer.proportional or "schedule" in (type(optimizer).__doc__ or "")


@each_schedule
def test_both_engines_do_what_a_plain_loop_does(schedule):
    cells = [
        Cell(TINY_QUADRATIC, SGD(learning_rate=rate), schedule, dtype="float64", steps=60)
        for rate in (0.3, 1.2)
    ]
    inputs = Inputs.of(cells)
    plain = drive(inputs, Plain(inputs), lambda event, facts: None)
    for framework in ("jax", "torch"):
        again = [Cell(c.task, c.optimizer, schedule, framework, "float64", steps=60) for c in cells]
        for one, other in zip(plain, run(again), strict=True):
            np.testing.assert_allclose(other.losses, one.losses, rtol=1e-9)
            np.testing.assert_allclose(other.evaluations["loss"], one.evaluations["loss"], rtol=1e-9)


# --- evaluation and the end ----------------------------------------------------------------------------------


@each_framework
def test_every_split_is_looked_at_where_the_task_says(framework, monkeypatch):
    monkeypatch.setattr(type(TINY_MLP), "evaluation_steps", lambda self, steps: (0, 3, 4, steps))
    [trace] = run([Cell(TINY_MLP, SGD(learning_rate=0.3), framework=framework, steps=9)])
    assert list(trace.evaluation_steps) == [0, 3, 4, 9]
    splits = {f"{split}_{kind}" for split in ("train", "validation", "test") for kind in ("loss", "error")}
    assert trace.evaluations.keys() == splits
    for name, values in trace.evaluations.items():
        assert values.shape == (4,), name
    for split in ("validation", "test"):
        assert trace.evaluations[f"{split}_loss"][-1] < trace.evaluations[f"{split}_loss"][0]
    # What is evaluated at step 0 are the first parameters: a network that knows nothing yet.
    assert trace.evaluations["validation_error"][0] > 0.8


@each_framework
def test_a_lane_ends_early_at_a_final_target_or_diverged_and_for_no_other_reason(framework):
    def lane(task, rate, steps):
        [trace] = run([Cell(task, SGD(learning_rate=rate), framework=framework, steps=steps)])
        return trace

    stuck = lane(TINY_QUADRATIC, 1e-12, 300)
    assert (stuck.status, len(stuck.losses)) == (Status.DONE, 300), (
        "nobody gives up on a lane that stands still"
    )
    rising = lane(TINY_QUADRATIC, 2.1, 60)
    assert rising.losses[-1] > 2 * rising.losses[0]
    assert (rising.status, len(rising.losses)) == (Status.DONE, 60), "nor on one that gets worse"
    reached = lane(TINY_QUADRATIC, 1.5, 300)
    assert reached.status is Status.REACHED
    assert reached.losses[-1] <= TINY_QUADRATIC.targets()[-1].value < reached.losses[-2]
    diverged = lane(TINY_QUADRATIC, 500.0, 300)
    assert diverged.status is Status.DIVERGED
    assert len(diverged.losses) < 300
    network = MLP(width=32, layers=1, batch=64)
    beyond, target = lane(network, 0.5, 150), network.targets()[0]
    assert beyond.evaluations[target.metric].min() <= target.value, "it passes a target that is not final"
    assert (beyond.status, len(beyond.losses)) == (Status.DONE, 150)
