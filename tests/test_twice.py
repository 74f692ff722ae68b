"""The self-check: which cells run twice, what that may cost, and what is said where the bits differ."""

import dataclasses

import numpy as np
import pytest

from optbench.cell import Cell, Schedule
from optbench.execute.request import Request
from optbench.execute.session import OTHER_BITS
from optbench.execute.twice import LONG, SHARE, checks
from optbench.plan import Program, programs
from tests.reliability.stub import Stub, session


def planned(schedule: str | None = None, steps: int = 20_000, seeds: int = 5) -> list[Program]:
    asked = Request(task=("mlp",), opt=("adam", "sgd", "kron"), schedule=schedule, steps=steps, seeds=seeds)
    return programs(asked.cells())


def test_a_long_run_checks_at_least_one_cell_within_its_share():
    made = planned()
    total = sum(program.cost for program in made)
    assert total > LONG
    [check] = checks(made)
    assert check.cost <= SHARE * total
    assert check.first[0] in {cell for program in made for cell in program.cells}
    assert dataclasses.replace(check.cells[0], steps=check.first[0].steps) == check.first[0]
    assert check.id != Program(check.cells, check.mode, check.device, check.width).id, (
        "it would go on from a checkpoint"
    )
    assert checks(made) == [check], "the same run checks the same cell"
    assert checks(planned(steps=20)) == [], "a short run checks none"


def test_a_schedule_that_moves_is_not_cut():
    for check in checks(planned("cosine")):
        assert check.cells == check.first
    cells = [Cell(c.task, c.optimizer, Schedule("cosine"), steps=c.steps) for p in planned() for c in p.cells]
    assert all(check.cells == check.first for check in checks([Program((cell,), "map") for cell in cells]))


def test_one_program_in_fifty():
    cells = [cell for program in planned(seeds=25) for cell in program.cells][:120]
    assert len(checks([Program((cell,), "map") for cell in cells])) == 2


@pytest.mark.parametrize("faithful", [True, False])
def test_other_bits_are_an_error_and_the_cell_counts_as_not_stored(tmp_path, faithful):
    stub = Stub()
    if not faithful:
        stub.noise = np.random.default_rng(0)
    asked = session(tmp_path, stub, paranoid=True)
    differ = [event for event in asked.run() if event.kind == "differs"]
    assert len(differ) == (0 if faithful else len(asked.cells))
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".parquet"] == []
    again = session(tmp_path, stub)
    assert again.missing == len(differ)
    if differ:
        assert set(asked.frame()["status"]) == {"error"}
        assert set(asked.frame()["reason"]) == {OTHER_BITS}
