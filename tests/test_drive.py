"""The loop that every framework's lanes share, with a backend in NumPy: when it steps, looks, saves and stops."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optbench import optimizers, tasks
from optbench.cell import Cell, Schedule, Status
from optbench.engines import lanes
from optbench.engines.lanes import BLOCK, Inputs, chunks, drive
from optbench.protocol import Counts
from tests import contract
from tests.contract import same_bits


class Plain:
    """Gradient descent on a quadratic, all lanes at once; notes every call."""

    def __init__(self, inputs: Inputs, die_at: int | None = None):
        self.inputs, self.die_at = inputs, die_at
        self.facts = {"mode": "plain"}
        self.matrix = inputs.cell.task.data()["A"]
        self.spans, self.looks = [], []

    def start(self):
        arrays = self.inputs.lane_arrays()
        self.rates = arrays["numbers"]["learning_rate"][:, None]
        self.x, self.t = arrays["params"]["x"].copy(), 0

    def gradients(self):
        return np.stack([self.matrix @ x for x in self.x])  # lane by lane: BLAS rounds a matrix by its height

    def prepare(self, start):
        pass

    def advance(self, start, stop):
        assert start == self.t, "a step was left out or done twice"
        assert start // BLOCK == (stop - 1) // BLOCK, "a chunk lies within one block of inputs"
        if self.die_at is not None and stop > self.die_at:
            raise KeyboardInterrupt
        self.spans.append((start, stop))
        factors = self.inputs.block(start // BLOCK)["factors"]
        losses = np.empty((stop - start, len(self.x)))
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(start, stop):
                gradient = self.gradients()
                losses[t - start] = (gradient * self.x).sum(1) / 2
                self.x = self.x - self.rates * factors[t % BLOCK] * gradient
        self.t = stop
        return losses

    def evaluate(self):
        self.looks.append(self.t)
        with np.errstate(over="ignore", invalid="ignore"):
            return {"loss": (self.gradients() * self.x).sum(1) / 2}

    def counts(self):
        each = np.full(len(self.x), self.t)
        return Counts(each, 0 * each, 0 * each)

    def save(self):
        return [self.x.copy(), np.array(self.t)]

    def restore(self, leaves):
        self.x, self.t = leaves[0].copy(), int(leaves[1])


class Memory(contract.Memory):
    """Notes the steps at which it saved."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def save(self, arrays):
        super().save(arrays)
        self.steps.append(int(arrays["scalars"][0]))


def cells(rates=(0.1, 0.5), seeds=2, steps=90, task="quadratic_10", **rest) -> list[Cell]:
    sgd = optimizers.parse("sgd")
    return [
        Cell(tasks.parse(task), sgd.replace(learning_rate=rate), seed=seed, steps=steps, **rest)
        for rate in rates
        for seed in range(seeds)
    ]


def run(of, keep=None, **options):
    inputs = Inputs.of(of)
    backend = Plain(inputs, **options)
    return drive(inputs, backend, lambda event, facts: None, keep), backend


def same(ones, others) -> None:
    """Fail unless traces are equal in everything but seconds."""
    for one, other in zip(ones, others, strict=True):
        same_bits(one, other)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3 * BLOCK), st.floats(0, 1))
def test_chunks_cover_every_step_once(steps, part):
    cell = cells(steps=steps)[0]
    looks = cell.task.evaluation_steps(steps)
    at = max(step for step in looks if step <= part * steps)
    spans = list(chunks(cell, at))
    assert [t for start, stop in spans for t in range(start, stop)] == list(range(at, steps))
    assert all(start // BLOCK == (stop - 1) // BLOCK for start, stop in spans)
    assert {stop for _, stop in spans} >= {step for step in looks if step > at}


@pytest.mark.parametrize("steps", [1, 29, 90, BLOCK + 100])
def test_every_lane_is_looked_at_where_its_task_says(steps):
    traces, backend = run(cells(rates=(1e-3, 1e-2), steps=steps))
    declared = list(traces[0].cell.task.evaluation_steps(steps))
    assert backend.looks == declared
    for trace in traces:
        assert trace.status is Status.DONE
        assert len(trace.losses) == steps
        assert list(trace.evaluation_steps) == declared
        inside = [step for step in declared if step < steps]
        np.testing.assert_array_equal(trace.evaluations["loss"][: len(inside)], trace.losses[inside])
        assert trace.counts.gradients == steps
        assert trace.facts["program_steps"] == steps


def test_a_lane_has_the_trace_that_it_has_alone():
    grid = cells(rates=(0.01, 0.5, 50.0), task="quadratic_10", schedule=Schedule("cosine", 0.1))
    together, _ = run(grid)
    same(together, [run([cell])[0][0] for cell in grid])


def test_a_diverged_lane_is_cut_at_its_step_and_its_neighbours_go_on():
    traces, backend = run(cells(rates=(0.01, 50.0), seeds=1))
    good, bad = traces
    assert (good.status, len(good.losses)) == (Status.DONE, 90)
    assert bad.status is Status.DIVERGED
    at = len(bad.losses) - 1
    assert not abs(bad.losses[-1]) <= bad.cell.task.ceiling
    assert (abs(bad.losses[:-1]) <= bad.cell.task.ceiling).all()
    assert f"at step {at}" in bad.reason
    assert max(bad.evaluation_steps) <= at
    assert len(bad.evaluations["loss"]) == len(bad.evaluation_steps)
    assert backend.spans[-1][1] == 90


def test_nan_counts_as_diverged():
    class Broken(Plain):
        def advance(self, start, stop):
            losses = super().advance(start, stop)
            losses[:, 0] = np.where(np.arange(start, stop) >= 7, np.nan, losses[:, 0])
            return losses

    inputs = Inputs.of(cells(rates=(0.01,)))
    first, second = drive(inputs, Broken(inputs), lambda event, facts: None)
    assert (first.status, len(first.losses)) == (Status.DIVERGED, 8)
    assert second.status is Status.DONE


def test_it_stops_when_no_lane_has_anything_left_to_do():
    # condition 1: a rate of 1 is at the target in one step, 3 leaves the ceiling behind in a few dozen
    traces, backend = run(cells(rates=(1.0, 3.0), seeds=1, steps=3000, task="quadratic[condition=1.0]"))
    assert [trace.status for trace in traces] == [Status.REACHED, Status.DIVERGED]
    assert backend.spans[-1][1] < 3000
    assert len(traces[0].losses) == 2
    assert traces[0].losses[-1] <= 1e-8


def test_a_reached_lane_does_not_stop_the_others():
    traces, _ = run(cells(rates=(1.0, 1e-3), seeds=1, task="quadratic[condition=1.0]"))
    assert [trace.status for trace in traces] == [Status.REACHED, Status.DONE]
    assert len(traces[1].losses) == 90


@pytest.mark.parametrize("die_at", [1, 40, 89, BLOCK + 7, 2 * BLOCK - 1])
def test_an_interrupted_program_goes_on_with_the_same_bits(monkeypatch, die_at):
    monkeypatch.setattr(lanes, "SAVE_EVERY", 0.0)
    schedule, task = Schedule("wsd", 0.2), "quadratic[condition=1e6]"
    grid = cells(rates=(1e-3, 0.3, 30.0), steps=2 * BLOCK, schedule=schedule, task=task)
    whole, backend = run(grid)
    memory = Memory()
    with pytest.raises(KeyboardInterrupt):
        run(grid, memory, die_at=die_at)
    saved_at = memory.steps[-1] if memory.steps else 0
    assert saved_at <= die_at
    resumed, second = run(grid, memory)
    assert second.spans[0][0] == saved_at
    same(resumed, whole)
    assert memory.kept is None, "what is finished needs no carry"
    assert set(memory.steps) <= set(backend.looks)
    assert resumed[0].facts["program_seconds"] > 0


def test_it_can_be_interrupted_again_and_again(monkeypatch):
    monkeypatch.setattr(lanes, "SAVE_EVERY", 0.0)
    grid = cells(rates=(1e-3, 30.0), steps=300)
    memory = Memory()
    for die_at in (20, 60, 61, 150, 290):
        with pytest.raises(KeyboardInterrupt):
            run(grid, memory, die_at=die_at)
    resumed, _ = run(grid, memory)
    same(resumed, run(grid)[0])
    assert memory.steps == sorted(memory.steps)


def test_short_programs_save_nothing():
    memory = Memory()
    run(cells(), memory)
    assert memory.steps == []


def test_lanes_of_two_programs_do_not_mix():
    with pytest.raises(ValueError, match="2 programs"):
        Inputs.of([*cells(), dataclasses.replace(cells()[0], steps=91)])
