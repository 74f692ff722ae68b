"""What must not run inside a compiled loop: asynchronous single steps, the probe, and what else is measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optbench import environment, optimizers, plan, tasks
from optbench.cell import Cell
from optbench.engines import jax as engine
from optbench.engines import jax_task, lanes, measured
from tests.contract import TINY_QUADRATIC, cells_of, run
from tests.convnet import ConvNet

TINY_CONVNET = ConvNet(width=2, batch=4)


def grid(name="adam", **fields):
    return cells_of(optimizers.parse(name), TINY_CONVNET, **{"steps": 12, "rates": 2, "seeds": 1, **fields})


def test_convolutions_run_in_single_steps_on_a_cpu_and_scanned_elsewhere():
    [cell] = grid(rates=1)
    shapes = plan.shapes_of(cell)
    assert plan.choose_mode(cell, shapes, "cpu") == "loop"
    assert plan.choose_mode(cell, shapes, "gpu") == "vmap"


def test_nothing_crosses_to_the_host_before_the_end_of_a_chunk(monkeypatch):
    backend = engine.StepBackend(lanes.Inputs.of(grid()), "loop", jax.devices("cpu")[0])
    backend.start()
    backend.prepare(0)
    crossings = []
    monkeypatch.setattr(engine, "fetched", lambda tree: crossings.append(tree) or tree)
    with jax.transfer_guard_host_to_device("disallow"):
        losses = backend.advance(0, 1)  # the step's number goes over once
        losses = backend.advance(0, 1)
    del crossings[:]
    losses = backend.advance(0, 9)
    assert losses.shape == (9, 2)
    assert len(crossings) == 1


# --- the trap ------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("OPTBENCH_CACHE", str(tmp_path))
    return tmp_path


def put(tree):
    return jax.tree.map(
        lambda array: jnp.asarray(array, np.float32 if array.dtype.kind == "f" else None), tree
    )


def test_a_convolution_in_a_compiled_loop_is_found(monkeypatch, fresh_cache):
    """jax-ml/jax#12868: the day this fails, convolutions may be scanned on a CPU."""
    sgd = optimizers.parse("sgd")
    assert jax_task.slowdown(Cell(ConvNet(width=16, batch=8, enlarge=2), sgd), put) > 3
    assert jax_task.slowdown(Cell(tasks.parse("mlp"), sgd), put) < 3


def test_what_was_found_is_recorded_and_never_changes_how_lanes_run(monkeypatch, fresh_cache):
    monkeypatch.setattr(jax_task, "PROBED_FROM", 0.0)
    monkeypatch.setattr(jax_task, "slowdown", lambda cell, put: 34.0)
    [trace] = run(cells_of(optimizers.parse("sgd"), TINY_QUADRATIC, steps=2, rates=1, seeds=1), "map")
    assert (trace.facts["loop_slowdown"], trace.facts["mode"]) == (34.0, "map")
    [file] = (fresh_cache / "measured").iterdir()
    assert environment.remembered(file) == "34.0"


def test_the_question_is_asked_once_and_not_of_small_tasks(monkeypatch, fresh_cache):
    asked = []
    monkeypatch.setattr(jax_task, "slowdown", lambda cell, put: asked.append(cell.task) or 1.5)
    small = Cell(TINY_QUADRATIC, optimizers.parse("sgd"))
    large = Cell(tasks.parse("mlp[batch=1000]"), optimizers.parse("sgd"))
    assert jax_task.loop_facts(small, "map", None) == {}
    assert jax_task.loop_facts(large, "loop", None) == {}
    for _ in range(2):
        assert jax_task.loop_facts(large, "map", None) == {"loop_slowdown": 1.5}
    assert len(asked) == 1


def test_a_cache_that_cannot_be_written_is_measured_again(monkeypatch, fresh_cache):
    (fresh_cache / "measured").write_text("a file where the folder should be")
    values = iter([1.0, 2.0])
    assert [measured.remembered("x", {}, lambda: next(values)) for _ in range(2)] == [1.0, 2.0]


# --- throughput ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_the_peak_is_measured_once_for_tasks_of_some_size(framework, fresh_cache):
    [trace] = run([Cell(tasks.parse("mlp"), optimizers.parse("sgd"), framework=framework, steps=2)])
    first = trace.facts["peak_flops_per_second"]
    assert 1e9 < first < 1e15
    [again] = run([Cell(tasks.parse("mlp"), optimizers.parse("adam"), framework=framework, steps=2)])
    assert again.facts["peak_flops_per_second"] == first
    assert len(list((fresh_cache / "measured").glob("peak-*.json"))) == 1
    [toy] = run([Cell(TINY_QUADRATIC, optimizers.parse("sgd"), framework=framework, steps=2)])
    assert "peak_flops_per_second" not in toy.facts
