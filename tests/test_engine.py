"""The bit contracts of every lane mode: same cell, same bits, in any company and however the run is cut."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import torch

from optbench import optimizers, tasks
from optbench.cell import Cell, Status
from optbench.engines import jax as jax_engine
from optbench.engines import lanes
from optbench.engines import torch as torch_engine
from optbench.task import Task
from tests.contract import TINY_MLP, TINY_QUADRATIC, Memory, cells_of, run, same_bits
from tests.convnet import ConvNet

torch.set_num_threads(1)


class Way(NamedTuple):
    """A mode, and an optimizer and a task to try it with."""

    mode: str
    name: str
    task: Task

    @property
    def framework(self):
        return "torch" if self.mode in ("eager", "ensemble") else "jax"

    def cells(self, steps=24, rates=2, seeds=2, **fields):
        fields = {"framework": self.framework, "steps": steps, "rates": rates, "seeds": seeds, **fields}
        return cells_of(optimizers.parse(self.name), self.task, **fields)

    def run(self, cells, keep=None):
        return run(cells, self.mode, keep)


WAYS = [
    # A first-order method, one with Hessian-vector products on a schedule, one with draws and a preconditioner on one.
    *(Way("map", name, TINY_MLP) for name in ("adam", "esgd", "kron")),
    *(Way("vmap", name, TINY_QUADRATIC) for name in ("adam", "esgd", "kron")),
    Way("loop", "adam", ConvNet(width=2, batch=4)),
    # Also an optimizer that calls a closure.
    *(Way("eager", name, TINY_MLP) for name in ("lbfgs", "adam", "esgd", "kron")),
    Way("ensemble", "adam", TINY_MLP),
    Way("ensemble", "sgd", TINY_QUADRATIC),
]
SLOW = {("map", "kron"), ("map", "esgd"), ("vmap", "esgd")}
"""Compiled for seconds; the other mode has the method by default."""
each_way = pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=[pytest.mark.slow] * (way[:2] in SLOW)) for way in WAYS],
    ids=[f"{way.mode}-{way.name}" for way in WAYS],
)
SIDE_BY_SIDE = [way for way in WAYS if way.mode in lanes.SIDE_BY_SIDE and way.name != "esgd"]


@each_way
def test_a_lane_has_the_same_bits_in_any_company(way):
    """Alone, among some, in another order, and beside a lane that goes to NaN."""
    cells = way.cells(rates=3 if way.mode == "ensemble" else 2)
    together = way.run(cells)
    assert {trace.facts["mode"] for trace in together} == {way.mode}
    sweeps = cells[0].optimizer.swept() is not None
    wild = (
        [dataclasses.replace(cells[0], optimizer=cells[0].optimizer.replace(learning_rate=1e25))]
        if sweeps
        else []
    )
    for others in (cells[1:2], cells[::-1][:3], [*wild, *cells[::-1]]):
        for trace in way.run(others):
            if trace.cell in cells:
                same_bits(trace, together[cells.index(trace.cell)])
            else:
                assert trace.status is Status.DIVERGED


@each_way
def test_resumed_or_cut_into_other_chunks_a_lane_has_the_same_bits(way, monkeypatch):
    """A run that was ended at a save goes on from it; evaluating at other steps cuts other chunks."""
    monkeypatch.setattr(lanes, "SAVE_EVERY", -1.0)
    cells = way.cells(seeds=1)
    kept = Memory(stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        way.run(cells, lambda group: kept)
    kept.stop_after = None
    resumed, uninterrupted = way.run(cells, lambda group: kept), way.run(cells)
    assert kept.kept is None
    monkeypatch.setattr(type(way.task), "evaluation_steps", lambda self, steps: (0, 7, steps))
    for one, other, rarely in zip(uninterrupted, resumed, way.run(cells), strict=True):
        same_bits(one, other)
        np.testing.assert_array_equal(one.losses, rarely.losses)


@pytest.mark.parametrize("way", SIDE_BY_SIDE, ids=lambda way: f"{way.mode}-{way.name}")
def test_more_lanes_than_the_width_change_no_bits(way):
    cells = way.cells(steps=8, rates=lanes.WIDTH + 2, seeds=1)
    for trace, one in zip(way.run(cells[-3:]), way.run(cells)[-3:], strict=True):
        same_bits(trace, one)


@pytest.mark.parametrize(
    ("name", "modes"),
    [
        pytest.param("adam", ("map", "vmap", "loop"), marks=pytest.mark.slow),
        ("nadam", ("eager", "ensemble")),
    ],
)
def test_all_modes_compute_the_same_up_to_rounding(name, modes):
    """Also side by side at another width than the usual one, as after a shortage of memory."""
    first, *others = (Way(mode, name, TINY_MLP) for mode in modes)
    engine = jax_engine if first.framework == "jax" else torch_engine
    cells = first.cells(12, rates=3, dtype="float64")
    wanted = first.run(cells)
    for way in others:
        for width in (lanes.WIDTH, 2) if way.mode in lanes.SIDE_BY_SIDE else (lanes.WIDTH,):
            for one, other in zip(wanted, engine.run(cells, way.mode, width=width), strict=True):
                np.testing.assert_allclose(one.losses, other.losses, rtol=1e-9)
                assert one.counts == other.counts
                assert other.facts.get("width", width) == width
                assert one.facts["state_bytes"] == pytest.approx(other.facts["state_bytes"], rel=0.01)
                for metric, values in one.evaluations.items():
                    np.testing.assert_allclose(other.evaluations[metric], values, rtol=1e-9)


@pytest.mark.parametrize("mode", ["vmap", "ensemble"])
def test_a_group_that_had_ended_is_not_computed_again_after_a_crash(mode, monkeypatch):
    monkeypatch.setattr(lanes, "SAVE_EVERY", -1.0)
    way = Way(mode, "adam", TINY_QUADRATIC)
    engine = jax_engine if way.framework == "jax" else torch_engine
    cells = way.cells(12, rates=4, seeds=1)
    kept = {0: Memory(), 1: Memory(stop_after=3)}
    with pytest.raises(KeyboardInterrupt):
        engine.run(cells, mode, keep=kept.get, width=2)
    kept[1].stop_after = None
    stepped = []
    backend = engine.BACKENDS[mode]
    real = backend.advance
    monkeypatch.setattr(
        backend,
        "advance",
        lambda self, start, stop: stepped.append((self.inputs.cells[0], start)) or real(self, start, stop),
    )
    resumed = engine.run(cells, mode, keep=kept.get, width=2)
    assert {cell for cell, _ in stepped} == {cells[2]}, "the first group was stepped again"
    assert min(start for _, start in stepped) > 0
    for one, other in zip(resumed, engine.run(cells, mode, width=2), strict=True):
        same_bits(one, other)


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_a_task_whose_metrics_are_views_of_its_parameters(framework):
    [trace] = run([Cell(tasks.parse("valley"), optimizers.parse("adam"), framework=framework, steps=3)])
    assert trace.evaluations["x"][0] == np.float32(-1.2)
