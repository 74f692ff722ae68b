"""Lanes in PyTorch: what stays the same in every way of running them, what is counted, what is refused."""

import numpy as np
import pytest
import torch

from optbench import optimizers, plan
from optbench.cell import Cell, Status
from optbench.engines.torch_eager import TorchObjective
from optbench.execute.request import Request
from optbench.fields import UserError
from tests import stacked
from tests.contract import TINY_MLP, TINY_QUADRATIC, cells_of, run, same_bits

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


def test_an_optimizer_that_cannot_be_stacked_is_refused():
    with pytest.raises(UserError, match="kron is not element-wise, so its lanes cannot be stacked"):
        Request(opt=("adam", "kron"), framework="torch", lanes="ensemble").cells()
    with pytest.raises(UserError, match="jax has no lane mode 'ensemble'; it has vmap, map and loop"):
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
