"""The suite that compares the frameworks: draws, twins, and the verdict on right and wrong versions."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from optbench import tasks
from optbench.cell import Cell, Schedule
from optbench.fields import UserError
from optbench.optimizers import parse
from optbench.stats.parity import EPS, FACTOR, FLOOR, parity


def row(losses, framework="jax", twin=0, seed=0, dtype="float64"):
    """The columns of a stored row that the comparison reads."""
    keys = {"framework": framework, "twin": twin, "seed": seed}
    spec = json.dumps({**keys, "task": {"name": "t"}})
    row = {**keys, "spec": spec, "task": "t", "optimizer": "o", "dtype": dtype, "steps_run": len(losses)}
    return {**row, "twin": float(twin), "losses": np.array(losses, np.float64)}


def judged(torch, jax=(2.0, 1.0, 0.5), twins=((2.0, 1.0 + 1e-12, 0.5),)):
    rows = [row(torch, "torch"), row(jax), *(row(losses, twin=i + 1) for i, losses in enumerate(twins))]
    return parity(pd.DataFrame(rows)).iloc[0]


def test_by_hand():
    """Distances are relative to the largest loss so far, 2; a twin that is 1e-12 away allows 10 times 5e-13."""
    found = judged(torch=(2.0, 1.0, 0.5 + 4e-12))
    assert found["difference"] == pytest.approx(2e-12, rel=1e-3)
    assert found["growth"] == pytest.approx(5e-13, rel=1e-3)
    assert found["worst"] == pytest.approx(2e-12 / (FACTOR * 5e-13), rel=1e-3)
    assert found["holds"]


def test_a_difference_before_the_growth_is_one():
    """The growth of later steps excuses nothing: at step 0 only a few roundings are allowed."""
    early = judged(torch=(2.0 + 4e-12, 1.0, 0.5))
    assert not early["holds"]
    assert early["worst"] == pytest.approx(2e-12 / (FLOOR * EPS["float64"]), rel=1e-3)
    assert judged(torch=(2.0 + 1e-14, 1.0, 0.5))["holds"]


def test_a_version_that_did_not_run_does_not_agree():
    for found in (judged(torch=()), judged(torch=(2.0, 1.0, 0.5), twins=((),))):
        assert not found["holds"]
        assert found["missing"] == 1


def test_the_worst_seed_counts():
    rows = [
        row(losses, framework, twin, seed)
        for seed, torch in ((0, (1.0, 0.5)), (1, (1.0, 0.6)))
        for losses, framework, twin in ((torch, "torch", 0), ((1.0, 0.5), "jax", 0), ((1.0, 0.5), "jax", 1))
    ]
    found = parity(pd.DataFrame(rows)).iloc[0]
    assert found["compared"] == 2
    assert found["difference"] == pytest.approx(0.1)
    assert not found["holds"]


def test_torch_gets_the_draws_of_jax():
    """The same bits for the same name, step and seed."""
    import jax
    import jax.numpy as jnp
    import torch

    from optbench.rules.key_draws import TorchKeyNoise
    from optbench.rules.optax import KeyNoise

    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            ours, theirs = KeyNoise.seeded(7), TorchKeyNoise(7)
            for step in (0, 3):
                want = ours.normal("probe.w", step, jnp.zeros((3, 2), dtype))
                got = theirs.normal("probe.w", step, torch.zeros((3, 2), dtype=getattr(torch, dtype)))
                np.testing.assert_array_equal(got.numpy(), want)
                want = np.asarray(ours.uniform("u", step, dtype))
                assert theirs.uniform("u", step, getattr(torch, dtype)).item() == want
                shapes = {"small.b": (3,), "large": (300, 300), "small.a": (2, 2)}
                want = ours.normals("probe", step, {key: jnp.zeros(s, dtype) for key, s in shapes.items()})
                likes = {key: torch.zeros(s, dtype=getattr(torch, dtype)) for key, s in shapes.items()}
                got = theirs.normals("probe", step, likes)
                assert list(got) == list(shapes)
                for key in shapes:
                    np.testing.assert_array_equal(got[key].numpy(), want[key])


def cells(optimizer, steps=40):
    shared = (tasks.parse("quadratic_10"), parse(optimizer), Schedule())
    sides = [("torch", 0), ("jax", 0), ("jax", 1), ("jax", 2)]
    return [Cell(*shared, framework, "float64", 0, steps, twin) for framework, twin in sides]


def frame_of(optimizer, **changes):
    """The comparison of one optimizer, run by both engines; `changes` break torch's version."""
    from optbench.engines import jax as jax_engine
    from optbench.engines import torch as torch_engine
    from optbench.store import record

    torch_cell, *jax_cells = cells(optimizer)
    wrong = dataclasses.replace(torch_cell, optimizer=torch_cell.optimizer.replace(**changes))
    [trace] = torch_engine.run([wrong], "eager")
    trace.cell = torch_cell
    traces = [trace, *jax_engine.run(jax_cells, "map")]
    return pd.DataFrame([record(trace) for trace in traces])


def test_versions_that_agree_are_told_from_those_that_do_not():
    """kron draws noise at each step; a momentum that is wrong in the fifth digit is seen."""
    right = parity(frame_of("kron[learning_rate=0.01]")).iloc[0]
    assert right["holds"], right
    wrong = parity(frame_of("kron[learning_rate=0.01]", b1=0.90001)).iloc[0]
    assert not wrong["holds"]
    assert wrong["worst"] > 100


def test_a_twin_is_its_cell_moved_by_roundings():
    """Twin 0 has the bits of the ordinary cell; twin 1 has others, and stays beside it."""
    from optbench.engines import jax as engine

    _, straight, bent, further = cells("adam")
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
    torch_cell, straight, *_ = cells("adam")
    with pytest.raises(UserError, match="twin=1"):
        dataclasses.replace(torch_cell, twin=1)
    assert "twin" not in dataclasses.replace(straight, twin=None).spec()
