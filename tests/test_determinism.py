"""The bits of networks: a convolving one, an unfolded one and a transformer, in JAX and in PyTorch.

Each cell is run again, cut into other chunks, resumed, alone, in another process, and with one worker as with two, and
must have the same bits.
"""

import functools
import hashlib
import os

import numpy as np
import pytest

import optbench
from optbench import optimizers, tasks
from optbench.cell import Cell
from optbench.engines import lanes
from optbench.tasks.data import folder
from tests import datafiles
from tests.contract import Memory, run, same_bits
from tests.process import python

CORES = [int(core) for core in os.environ.get("OPTBENCH_TEST_CORES", "").split(",") if core]
"""What the tests may run on; conftest.py pins each of their processes to one."""
NETWORKS = {
    "transformer": "transformer[d_model=16,layers=1,heads=2,context=12,batch=4]",
    "resnet": "resnet[width=4,batch=8]",
    "convolving": "resnet[width=4,batch=8,dataset=mnist]",
}
STEPS = 6
QUICK = {("transformer", "torch")}
PAIRS = [
    pytest.param(name, framework, marks=() if (name, framework) in QUICK else pytest.mark.slow)
    for name in NETWORKS
    for framework in ("jax", "torch")
]


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A few images in the form of MNIST's."""
    monkeypatch.setenv(folder.VARIABLE, str(datafiles.mnist(tmp_path / "data")))


@functools.cache
def adam():
    return [optimizers.parse("adam").replace(learning_rate=rate) for rate in (1e-3, 1e-2)]


def cells_of(name, framework):
    """Two learning rates and two seeds."""
    task = tasks.parse(NETWORKS[name])
    return [
        Cell(task, each, steps=STEPS, seed=seed, framework=framework) for each in adam() for seed in range(2)
    ]


def fingerprint(traces) -> str:
    """Of all bits of losses and evaluations."""
    found = hashlib.sha256()
    for trace in traces:
        for array in (trace.losses, *(trace.evaluations[metric] for metric in sorted(trace.evaluations))):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


@pytest.mark.parametrize(("name", "framework"), PAIRS)
def test_the_same_cell_has_the_same_bits(name, framework, monkeypatch):
    cells = cells_of(name, framework)
    together = run(cells)
    modes = {"torch": "eager", "jax": "loop" if name == "convolving" else "map"}
    assert {trace.facts["mode"] for trace in together} == {modes[framework]}
    assert fingerprint(run(cells)) == fingerprint(together), "the same program again"
    for one, other in zip(together[::-1], run(cells[::-1]), strict=True):
        same_bits(one, other)
    same_bits(run(cells[2:3])[0], together[2])  # alone

    with monkeypatch.context() as patch:
        patch.setattr(lanes, "SAVE_EVERY", -1.0)
        kept = Memory(stop_after=2)
        with pytest.raises(KeyboardInterrupt):
            run(cells, keep=lambda group: kept)
        kept.stop_after = None
        for one, other in zip(together, run(cells, keep=lambda group: kept), strict=True):
            same_bits(one, other)  # resumed

    with monkeypatch.context() as patch:
        patch.setattr(type(cells[0].task), "evaluation_steps", lambda self, steps: (0, 4, steps))
        for one, rarely in zip(together, run(cells), strict=True):
            np.testing.assert_array_equal(one.losses, rarely.losses)  # in other chunks
    assert in_another_process(name, framework, threads=1) == fingerprint(together)


@pytest.mark.slow
@pytest.mark.skipif(len(CORES) < 2, reason="one core: no second thread to run on")
@pytest.mark.parametrize("name", ["transformer", "resnet"])
def test_two_threads_change_no_bits_of_matrix_products_in_jax(name):
    """Convolutions, and everything in PyTorch, have other bits on two threads: a worker of either has one."""
    one, two = (in_another_process(name, "jax", threads) for threads in (1, 2))
    assert one == two


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_the_number_of_workers_changes_no_bits(framework, tmp_path):
    """Two workers take other programs, and in PyTorch other lanes, than one does."""
    asked = {"opt": "adam", "lr": "0.01,0.001", "seeds": 2, "steps": STEPS, "framework": framework}
    one, two = (
        optbench.run(**asked, task=[*NETWORKS.values()], jobs=jobs, results=str(tmp_path / str(jobs))).frame
        for jobs in (1, 2)
    )
    losses = [dict(zip(frame["cell"], frame["losses"], strict=True)) for frame in (one, two)]
    assert len(losses[0]) == 4 * len(NETWORKS)
    assert losses[0].keys() == losses[1].keys()
    for cell, values in losses[0].items():
        np.testing.assert_array_equal(values, losses[1][cell])


def in_another_process(name, framework, threads) -> str:
    """The fingerprint of the same cells from a fresh process with so many cores, and threads for as many."""
    code = f"""
import os
if {CORES}:
    os.sched_setaffinity(0, {CORES[:threads]})
import torch
torch.set_num_threads({threads})
torch.set_num_threads = lambda count: None  # whoever runs cells asks for one
from tests.test_determinism import *
print(fingerprint(run(cells_of({name!r}, {framework!r}))))
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()[-1]
