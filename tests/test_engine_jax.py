"""The bit contracts of the lane engine: same cell, same bits, whatever runs beside it and however it is cut."""

import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optbench import optimizers, tasks
from optbench.cell import Cell, Status
from optbench.engines import jax as engine
from optbench.engines import lanes
from tests.contract import TINY_QUADRATIC, cells_of, run, same_bits
from tests.process import python

NAMED = ("adam", "esgd", "kron")
"""A first-order method, one with Hessian-vector products on a schedule, one with a preconditioner on a schedule."""


def optimizer(name):
    return optimizers.names()[name]


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


@pytest.mark.parametrize(
    ("task", "name", "mode", "older"),
    [
        ("zipf", "adam", "map", False),
        ("zipf", "kron", "map", True),
        ("rosenbrock_2", "adam", "map", False),
        ("rosenbrock_2", "adam", "loop", True),
        ("quadratic_100", "adam", "vmap", False),
        ("quadratic_100", "kron", "vmap", False),
    ],
)
def test_the_program_decides_which_emitters_compile_its_steps(task, name, mode, older, monkeypatch):
    """The newer ones where much is computed element by element, whatever the number of lanes and steps."""
    asked, ask = [], engine.JaxBackend.hasty

    def told(*given):
        asked.append(ask(*given))
        raise InterruptedError

    monkeypatch.setattr(engine.JaxBackend, "hasty", told)
    for steps, rates in ((10, 1), (30, 2)):
        cells = cells_of(optimizer(name), tasks.parse(task), steps=steps, rates=rates)
        with pytest.raises(InterruptedError):
            run(cells, mode)
    assert asked == [older, older]


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


@pytest.mark.slow
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
    done = python("-c", f"import os; os.sched_setaffinity(0, {cores})\n{code}", timeout=240)
    assert "4 lanes ended" in done.stdout, f"{time.monotonic() - begun:.0f} s: {done.stderr[-500:]}"
