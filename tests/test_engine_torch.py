"""Lanes in PyTorch: what stays the same in every way of running them, what is counted, what is refused."""

import numpy as np
import pytest
import torch

from optbench import optimizers, plan
from optbench.cell import Cell, Status
from optbench.engines import lanes
from optbench.engines import torch as engine
from optbench.engines.torch_eager import TorchObjective
from optbench.execute.request import Request
from optbench.fields import UserError
from optbench.optimizers.sgd import SGD
from tests import stacked
from tests.contract import TINY_MLP, TINY_QUADRATIC, Memory, cells_of, run, same_bits

IN_TORCH = [each for each in optimizers.names().values() if "torch" in each.frameworks()]
torch.set_num_threads(1)


def grid(name, task=TINY_MLP, **fields):
    return cells_of(optimizers.parse(name), task, framework="torch", **{"steps": 8, "rates": 2, **fields})


# --- programs and workers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("jobs", "sizes"), [(1, [7]), (2, [3, 4]), (3, [1, 3, 3]), (16, [1] * 7)])
def test_lanes_are_spread_over_the_workers(jobs, sizes):
    cells = grid("adam", rates=7, seeds=1)
    made = plan.programs(cells, jobs=jobs)
    assert sorted(len(program.cells) for program in made) == sizes
    assert {cell.id() for program in made for cell in program.cells} == {cell.id() for cell in cells}
    assert {program.mode for program in made} == {"eager"}


def test_spreading_lanes_changes_no_bits():
    cells = grid("kron", rates=3, seeds=1)
    together = {trace.cell.id(): trace for trace in run(cells)}
    for program in plan.programs(cells, jobs=2):
        for trace in run(program.cells):
            same_bits(trace, together[trace.cell.id()])


# --- the eager loop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [each for each in IN_TORCH if each.due_hvps(9)], ids=lambda o: o.name)
def test_the_gradient_is_differentiated_again_only_on_due_steps(optimizer, monkeypatch):
    graphs = []
    real = torch.autograd.grad

    def counted(*arguments, create_graph=False, **options):
        graphs.append(create_graph)
        return real(*arguments, create_graph=create_graph, **options)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    [trace] = run([Cell(TINY_MLP, optimizer, framework="torch", steps=9)])
    assert sum(graphs) == trace.counts.hvps == optimizer.due_hvps(9)
    assert trace.counts.gradients == 9
    assert len(graphs) == 9 + trace.counts.hvps, "one gradient a step, and one more where a product is due"


@pytest.mark.parametrize("name", ["lbfgs", "adam", "esgd", "kron"])
def test_resumed_equals_uninterrupted(name, monkeypatch):
    """Also an optimizer that is a closure's caller, and one with draws and a cadence."""
    monkeypatch.setattr(lanes, "SAVE_EVERY", -1.0)
    cells = grid(name, seeds=1, steps=24)
    kept = Memory(stop_after=12)
    with pytest.raises(KeyboardInterrupt):
        run(cells, keep=lambda group: kept)
    kept.stop_after = None
    resumed = run(cells, keep=lambda group: kept)
    for one, other in zip(run(cells), resumed, strict=True):
        same_bits(one, other)


def test_every_call_of_a_closure_is_counted_in_the_engine(monkeypatch):
    calls = []
    real = TorchObjective.value_and_grad
    monkeypatch.setattr(
        TorchObjective, "value_and_grad", lambda self, params: calls.append(1) or real(self, params)
    )
    [trace] = run([Cell(TINY_QUADRATIC, optimizers.parse("lbfgs"), framework="torch", steps=6)])
    assert trace.status is Status.DONE
    assert trace.counts.gradients == len(calls) > 6
    assert trace.losses[-1] < trace.losses[0] / 10


# --- ensembles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", IN_TORCH, ids=lambda optimizer: optimizer.name)
def test_who_may_be_stacked_is_declared(optimizer):
    """`elementwise` is what stepping stacked lanes and single ones shows, for each optimizer of the catalogue."""
    assert optimizer.elementwise == stacked.is_elementwise(optimizer)


@pytest.mark.parametrize("task", [TINY_QUADRATIC, TINY_MLP], ids=lambda task: task.name)
def test_a_lane_of_an_ensemble_has_the_same_bits_in_any_company(task):
    cells = grid("adam", task, rates=3, seeds=3)
    together = run(cells, "ensemble")
    assert {trace.facts["mode"] for trace in together} == {"ensemble"}
    wild = [Cell(task, SGD(learning_rate=1e25), framework="torch", steps=8)]
    for others in ([cells[4]], cells[::-1], cells[3:5]):
        for trace in run(others, "ensemble"):
            same_bits(trace, together[cells.index(trace.cell)])
    sgd = grid("sgd", task, rates=2, seeds=2)
    alone = run(sgd, "ensemble")
    beside = run([*wild, *sgd], "ensemble")
    assert beside[0].status is Status.DIVERGED
    for one, other in zip(alone, beside[1:], strict=True):
        same_bits(one, other)


def test_an_ensemble_computes_what_the_eager_lanes_do():
    cells = grid("nadam", rates=3, seeds=2, dtype="float64", steps=20)
    for one, other in zip(run(cells, "eager"), run(cells, "ensemble"), strict=True):
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-9)
        assert one.counts == other.counts
        assert one.facts["state_bytes"] == pytest.approx(other.facts["state_bytes"], rel=0.01)
        for name, values in one.evaluations.items():
            np.testing.assert_allclose(values, other.evaluations[name], rtol=1e-9)


def test_more_lanes_than_the_width_change_no_bits():
    cells = grid("sgd", TINY_QUADRATIC, rates=lanes.WIDTH + 2, seeds=1, steps=8)
    whole = run(cells, "ensemble")
    for trace, one in zip(run(cells[-3:], "ensemble"), whole[-3:], strict=True):
        same_bits(trace, one)


def test_a_resumed_ensemble_equals_one_that_was_not_interrupted(monkeypatch):
    monkeypatch.setattr(lanes, "SAVE_EVERY", -1.0)
    cells = grid("adam", seeds=2)
    kept = Memory(stop_after=4)
    with pytest.raises(KeyboardInterrupt):
        run(cells, "ensemble", lambda group: kept)
    kept.stop_after = None
    for one, other in zip(run(cells, "ensemble"), run(cells, "ensemble", lambda group: kept), strict=True):
        same_bits(one, other)


def test_an_optimizer_that_cannot_be_stacked_is_refused():
    with pytest.raises(UserError, match=r"kron is not known to move each number by the history of its own"):
        Request(opt=("adam", "kron"), framework="torch", lanes="ensemble").cells()
    with pytest.raises(UserError, match="ensemble is not a way of jax, whose lanes run as vmap, map or loop"):
        Request(opt=("adam",), lanes="ensemble").cells()


# --- torch.compile -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "esgd"])
def test_compiled_lanes_compute_what_the_eager_lanes_do(name):
    """With an optimizer of Hessian-vector products, which a compiled backward cannot give."""
    cells = grid(name, seeds=1)
    for one, other in zip(run(cells, "eager"), run(cells, "compiled"), strict=True):
        assert other.facts["mode"] == "compiled"
        assert other.facts["compile_seconds"] > 0
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-3)
        assert one.counts == other.counts


def test_a_cell_runs_on_any_width(monkeypatch):
    """Narrower ensembles, as after a shortage of memory, agree to rounding and say how wide they were."""
    cells = grid("adam", rates=3, seeds=1, dtype="float64")
    for one, other in zip(run(cells, "ensemble"), engine.run(cells, "ensemble", width=2), strict=True):
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-9)
        assert (one.facts["width"], other.facts["width"]) == (lanes.WIDTH, 2)
