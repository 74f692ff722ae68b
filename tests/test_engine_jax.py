"""The bit contracts of the lane engine: same cell, same bits, whatever runs beside it and however it is cut."""

import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optbench import optimizers, plan
from optbench.cell import Cell, Status
from optbench.engines import jax as engine
from optbench.engines import lanes
from tests import contract
from tests.contract import TINY_MLP, TINY_QUADRATIC, Memory, cells_of, run, same_bits

NAMED = ("adam", "esgd", "kron")
"""A first-order method, one with Hessian-vector products on a schedule, one with a preconditioner on a schedule."""


def optimizer(name):
    return optimizers.names()[name]


@pytest.mark.parametrize("name", NAMED)
def test_lane_equals_alone_under_map(name):
    """lax.map lanes have the bits of the lane alone, in any number and order."""
    cells = cells_of(optimizer(name), TINY_MLP, steps=25, rates=2, seeds=2)
    together = run(cells, "map")
    reordered = run(cells[::-1][:3], "map")
    for one, other in zip(together[::-1][:3], reordered, strict=True):
        same_bits(one, other)
    for i in (0, 3):
        same_bits(together[i], run([cells[i]], "map")[0])


@pytest.mark.parametrize("name", NAMED)
def test_lane_equals_alone_under_vmap(name):
    """vmap lanes have the same bits alone (padded), permuted and beside a lane that goes to NaN."""
    cells = cells_of(optimizer(name), TINY_QUADRATIC, steps=40)
    wild = [Cell(TINY_QUADRATIC, optimizer(name).replace(learning_rate=1e25), steps=40)]
    together = run(cells, "vmap")
    beside = run([*wild, *cells[::-1]], "vmap")
    for one, other in zip(together[::-1], beside[1:], strict=True):
        same_bits(one, other)
    same_bits(together[2], run([cells[2]], "vmap")[0])
    assert beside[0].status is Status.DIVERGED


def test_more_lanes_than_the_width_change_no_bits():
    """A group more or less never changes a cell: programs have a fixed width."""
    cells = cells_of(optimizer("adam"), TINY_QUADRATIC, steps=10, rates=engine.WIDTH + 1, seeds=1)
    whole = run(cells, "vmap")
    few = run(cells[-2:], "vmap")
    same_bits(whole[-1], few[-1])
    same_bits(whole[-2], few[-2])


@pytest.mark.parametrize(
    ("name", "mode", "task"), [("kron", "map", TINY_MLP), ("esgd", "vmap", TINY_QUADRATIC)]
)
def test_resumed_equals_uninterrupted(name, mode, task, monkeypatch):
    """A run that was ended at a save and goes on from it has the bits of one that was not."""
    monkeypatch.setattr(lanes, "SAVE_EVERY", -1.0)
    cells = cells_of(optimizer(name), task, steps=24, rates=2, seeds=2)
    kept = Memory(stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        run(cells, mode, lambda group: kept)
    kept.stop_after = None
    resumed = run(cells, mode, lambda group: kept)
    assert kept.kept is None
    for one, other in zip(run(cells, mode), resumed, strict=True):
        same_bits(one, other)


@pytest.mark.parametrize(
    ("name", "mode", "task"), [("adam", "map", TINY_MLP), ("kron", "vmap", TINY_QUADRATIC)]
)
def test_chunk_lengths_change_no_bits(name, mode, task, monkeypatch):
    """Evaluating at other steps cuts other chunks: one compile, the same losses."""
    cells = cells_of(optimizer(name), task, steps=24, rates=2, seeds=1)
    often = run(cells, mode)
    monkeypatch.setattr(type(task), "evaluation_steps", lambda self, steps: (0, 7, steps))
    rarely = run(cells, mode)
    for one, other in zip(often, rarely, strict=True):
        np.testing.assert_array_equal(one.losses, other.losses)


def test_a_program_runs_the_bits_of_a_step_loop():
    """Deterministic across blocks: steps beyond one block of inputs go on where the last ended."""
    cells = cells_of(optimizer("adam"), TINY_QUADRATIC, steps=lanes.BLOCK + 40, rates=1, seeds=1)
    long = run(cells, "vmap")[0]
    short = run([Cell(c.task, c.optimizer, steps=lanes.BLOCK - 3) for c in cells], "vmap")[0]
    np.testing.assert_array_equal(long.losses[: len(short.losses)], short.losses)


@pytest.mark.parametrize("name", NAMED)
def test_counters_stay_unbatched(name):
    """A counter that no lane touches is not batched, so its lax.cond stays a branch under vmap (not a select)."""
    cells = cells_of(optimizer(name), TINY_QUADRATIC)
    backend = engine.JaxBackend(lanes.Inputs.of(cells), "vmap", jax.devices("cpu")[0])
    backend.start()
    for leaf in backend.carries[0]:
        is_counter = jnp.issubdtype(leaf.dtype, jnp.integer)
        assert (leaf.ndim == 0) == is_counter, f"{name}: leaf {leaf.shape} {leaf.dtype}"


def test_due_steps_are_a_branch_under_vmap():
    """The compiled program of an optimizer with a cadence holds a conditional over the Hessian-vector product."""
    cells = cells_of(optimizer("esgd"), TINY_QUADRATIC)
    backend = engine.JaxBackend(lanes.Inputs.of(cells), "vmap", jax.devices("cpu")[0])
    assert " conditional(" in backend.chunk.as_text()


def test_a_new_learning_rate_needs_no_compilation():
    """Learning rates are arguments: another grid runs through the same executable, with the right numbers."""
    cells = cells_of(optimizer("adam"), TINY_QUADRATIC, steps=10, rates=2, seeds=1)
    backend = engine.JaxBackend(lanes.Inputs.of(cells[:1]), "map", jax.devices("cpu")[0])
    first = lanes.drive(lanes.Inputs.of(cells[:1]), backend, lambda event, facts: None)
    backend.load(lanes.Inputs.of(cells[1:]))
    second = lanes.drive(lanes.Inputs.of(cells[1:]), backend, lambda event, facts: None)
    assert backend.facts["compile_seconds"] == first[0].facts["compile_seconds"]
    assert not np.array_equal(first[0].losses, second[0].losses)
    same_bits(second[0], run(cells[1:], "map")[0])


def test_diverged_lane_is_recorded_with_its_step():
    """The trace ends at the first loss that is not finite or above the ceiling, and says where."""
    from optbench.optimizers.sgd import SGD

    cells = [Cell(TINY_QUADRATIC, SGD(learning_rate=rate), steps=60) for rate in (0.1, 500.0)]
    fine, wild = run(cells, "vmap")
    assert fine.status is Status.DONE
    assert len(fine.losses) == 60
    assert wild.status is Status.DIVERGED
    assert 1 <= len(wild.losses) < 60
    assert f"step {len(wild.losses) - 1}" in wild.reason
    assert not abs(wild.losses[-1]) <= TINY_QUADRATIC.ceiling
    assert np.all(np.abs(wild.losses[:-1]) <= TINY_QUADRATIC.ceiling)


def test_a_reached_lane_stops_at_the_target_in_any_company():
    """Lanes that are done are cut there; the program stops when all are."""
    from optbench.optimizers.sgd import SGD

    quick = Cell(TINY_QUADRATIC, SGD(learning_rate=1.5), steps=2000)
    slow = Cell(TINY_QUADRATIC, SGD(learning_rate=1e-3), steps=2000)
    alone = run([quick], "vmap")[0]
    beside = run([slow, quick], "vmap")[1]
    same_bits(alone, beside)
    assert alone.status is Status.REACHED
    assert alone.facts["program_steps"] < 2000
    assert beside.facts["program_steps"] == 2000
    assert alone.losses[-1] <= 1e-8 < alone.losses[-2]


def test_double_precision_lives_beside_single():
    """float64 is a field of the cell, not a global switch."""
    for dtype in ("float64", "float32", "float64"):
        trace = run(
            cells_of(optimizer("adam"), TINY_QUADRATIC, steps=5, rates=1, seeds=1, dtype=dtype), "vmap"
        )[0]
        assert trace.losses.dtype == np.dtype(dtype)
    assert jnp.ones(1).dtype == jnp.float32


def test_map_and_vmap_and_loop_agree():
    """The three modes compute the same thing, up to rounding."""
    cells = cells_of(optimizer("adam"), TINY_MLP, steps=12, rates=2, seeds=1, dtype="float64")
    by_mode = {mode: run(cells, mode) for mode in plan.MODES["jax"]}
    for mode in ("vmap", "loop"):
        for one, other in zip(by_mode["map"], by_mode[mode], strict=True):
            np.testing.assert_allclose(one.losses, other.losses, rtol=1e-9)
            for name in one.evaluations:
                np.testing.assert_allclose(one.evaluations[name], other.evaluations[name], rtol=1e-9)


def test_kron_lanes_on_two_threads_do_not_stand_still():
    """Kron on a network, lanes under lax.map, on XLA's default thread pool: it ends within its time."""
    code = (
        "from tests.contract import *\n"
        "from optbench import optimizers\n"
        "cells = cells_of(optimizers.names()['kron'], MLP(width=64, layers=2), steps=8, rates=2, seeds=2)\n"
        "assert plan.choose_mode(cells[0], plan.shapes_of(cells[0]), 'cpu') == 'map'\n"
        "traces = run(cells)\n"
        "print(len(traces), 'lanes ended')"
    )
    cores = {int(core) for core in os.environ["OPTBENCH_TEST_CORES"].split(",")}
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {cores})\n{code}"],
        timeout=240,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "4 lanes ended" in done.stdout, f"{time.monotonic() - begun:.0f} s: {done.stderr[-500:]}"


def test_the_contract_module_is_used():
    """Every name of the catalogue has a page that holds the contract."""
    for each in optimizers.names().values():
        contract.check_page(each)
