"""Twenty steps on networks: PyTorch differs from JAX by rounding only, for every optimizer that both have."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from optbench import optimizers, tasks
from optbench.cell import Cell
from optbench.engines import jax as engine
from optbench.fields import UserError
from optbench.rules.key_draws import TorchKeyNoise
from optbench.rules.optax import KeyNoise
from tests import growth
from tests.growth import FACTOR, committed, declared, measure

CELLS = [
    Cell(tasks.parse("quadratic_10"), optimizers.parse("adam"), dtype="float64", steps=40, twin=twin)
    for twin in range(3)
]
PAIRS = [pytest.param(task, name, marks=pytest.mark.slow) for task in growth.TASKS for name in declared()]


@pytest.mark.parametrize(("task", "name"), PAIRS)
def test_twenty_steps_are_the_same_within_three_times_the_growth_of_a_rounding(task, name):
    found = measure(name, task)
    known = committed().get((task, name), found)  # an added optimizer is judged by what is measured here
    assert found.difference <= known.allowed, f"{found} where {known} is committed"
    # What was committed is what is measured: three draws of signs are a rough measure, here as there.
    assert found.growth <= 10 * known.allowed / FACTOR
    assert known.growth <= 10 * found.allowed / FACTOR


@pytest.mark.slow
def test_a_wrong_step_is_seen(monkeypatch):
    """A learning rate that is wrong in the eighth digit is more than a rounding."""
    kind = type(optimizers.parse("adam"))
    right = kind.torch

    def wrong(self, setting):
        return right(self.replace(learning_rate=self.learning_rate * (1 + 1e-8)), setting)

    monkeypatch.setattr(kind, "torch", wrong)
    assert measure("adam", "transformer").difference > committed()["transformer", "adam"].allowed


def test_what_is_committed_is_still_measured():
    assert set(committed()) <= {(task, name) for task in growth.TASKS for name in declared()}


def test_torch_gets_the_draws_of_jax():
    """The same bits for the same name, step and seed."""
    for dtype, step in (("float32", 3), ("float64", 0)):
        with jax.enable_x64(dtype == "float64"):
            ours, theirs = KeyNoise.seeded(7), TorchKeyNoise(7)
            want = ours.normal("probe.w", step, jnp.zeros((3, 2), dtype))
            got = theirs.normal("probe.w", step, torch.zeros((3, 2), dtype=getattr(torch, dtype)))
            np.testing.assert_array_equal(got.numpy(), want)
            want = np.asarray(ours.uniform("u", step, dtype))
            assert theirs.uniform("u", step, getattr(torch, dtype)).item() == want
            shapes = {"small.b": (3,), "large": (30, 30), "small.a": (2, 2)}
            want = ours.normals("probe", step, {key: jnp.zeros(s, dtype) for key, s in shapes.items()})
            likes = {key: torch.zeros(s, dtype=getattr(torch, dtype)) for key, s in shapes.items()}
            got = theirs.normals("probe", step, likes)
            assert list(got) == list(shapes)
            for key in shapes:
                np.testing.assert_array_equal(got[key].numpy(), want[key])


def test_a_twin_is_its_cell_moved_by_roundings():
    """Twin 0 has the bits of the ordinary cell; twin 1 has others, and stays beside it."""
    straight, bent, further = CELLS
    ordinary = dataclasses.replace(straight, twin=None)
    [plain] = engine.run([ordinary], "map")
    one, other, third = engine.run([straight, bent, further], "map")
    np.testing.assert_array_equal(plain.losses, one.losses)
    # Already before the first step: esgd divides by what it measures there.
    assert any(twin.losses[0] != one.losses[0] for twin in (other, third))
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-10)
    assert len({cell.id() for cell in (ordinary, straight, bent)}) == 3


def test_only_jax_has_twins_and_the_ids_of_old_cells_stay():
    """The spec of a cell without a twin has no such field, so that stored cells keep their ids."""
    straight, *_ = CELLS
    with pytest.raises(UserError, match="twin=1"):
        dataclasses.replace(straight, twin=1, framework="torch")
    assert "twin" not in dataclasses.replace(straight, twin=None).spec()
