"""Suites: the product, equal trials for all, and the files that they come from."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

from optbench import suite as suites
from optbench.cell import Schedule
from optbench.execute.request import Request
from optbench.fields import UserError
from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task
from optbench.tuning import BLOCK

FOLDER = Path(__file__).parent.parent / "suites"
FILES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__init__")


def small(**changes) -> Suite:
    tasks, rivals = map(task, ("quadratic_10", "rosenbrock_2")), map(optimizer, ("adam", "sgd"))
    fields = {"tasks": tuple(tasks), "optimizers": tuple(rivals), "trials": 3, "seeds": 2}
    return Suite(**{"name": "small", **fields, **changes})


def test_cells_are_the_product_each_once():
    cells = small().cells()
    assert len(cells) == 2 * 2 * 3 * 2
    assert len({cell.id() for cell in cells}) == len(cells)
    assert {cell.seed for cell in cells} == {0, 1}
    assert {cell.steps for cell in cells if cell.task.name == "rosenbrock"} == {2000}
    assert {cell.steps for cell in small(steps=7).cells()} == {7}


def test_axes_may_be_lists():
    schedules = (Schedule(), Schedule("cosine"))
    both = small(steps=(7, 14), schedule=schedules)
    assert len(both.cells()) == 4 * len(small().cells())
    assert {(c.schedule, c.steps) for c in both.cells()} == {(s, n) for s in schedules for n in (7, 14)}
    net = small(tasks=(task("mlp"), task("quadratic_10")), batch=(4, 8), width=(16, 32))
    assert [t.label() for t in net.tasks] == [
        *(f"mlp[width={w},batch={b}]" for b in (4, 8) for w in (16, 32)), "quadratic_10"
    ]  # fmt: skip
    assert replace(net, seeds=1).tasks == net.tasks


def test_fewer_seeds_may_choose_than_report():
    one = small(tasks=(task("quadratic_10"),), seeds=5, choosing=2, fresh=True)
    chosen = [cell for cell in one.cells() if cell.seed < BLOCK]
    assert len(chosen) == 2 * 3 * 2
    assert len(one.cells()) - len(chosen) == 2 * 5


def test_every_optimizer_gets_the_same_number_of_trials_and_steps():
    cells = small(trials=5).cells()
    budgets = [
        sorted((c.task.name, c.seed, c.steps) for c in cells if c.optimizer.name == name)
        for name in ("adam", "sgd")
    ]
    assert budgets[0] == budgets[1]


def test_given_learning_rates_replace_the_grid():
    cells = small().cells([0.5, 0.25])
    assert {cell.optimizer.lane_numbers()["learning_rate"] for cell in cells} == {0.5, 0.25}


def test_a_task_without_randomness_runs_one_seed():
    cells = small(tasks=(task("rosenbrock[jitter=0]"),), seeds=5).cells()
    assert {cell.seed for cell in cells} == {0}


@pytest.mark.parametrize(
    "changes",
    [{"tasks": ()}, {"optimizers": ()}, {"tasks": ("mlp",)}, {"optimizers": (optimizer("adam"),) * 2}]
    + [{name: value} for name in ("trials", "seeds", "steps") for value in (0, -1, 1.5)]
    + [{name: value} for name in ("trials", "seeds", "choosing") for value in ((), (3,), {"mlp": 2}, {})]
    + [
        {"trials": None},
        {"seeds": None},
        {"steps": ()},
        {"steps": {"mlp": ()}},
        {"batch": (0,)},
        {"axes": 3},
    ],
    ids=str,
)
def test_what_is_no_suite_is_refused_where_it_is_written(changes):
    with pytest.raises(UserError):
        small(**changes)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_suites_of_the_package(path):
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert doc.partition("\n")[0].endswith("?"), "the first line is the question"
    cost = r"(seconds|minutes?|hours?)\b[^.]* on\s+two\s+cores"
    assert re.search(cost, doc), "the docstring says what the command costs on two cores"
    [command] = [line for line in doc.splitlines() if line.strip().startswith("optbench ")][:1]
    assert path.stem.replace("_", "-") in command or path.stem == "gate", "the docstring says the command"
    suite = suites.from_file(path)
    assert suite.name == path.stem.replace("_", "-")
    assert suite.cells()
    if suite.name == "gate":  # compare an optimizer with itself
        return
    for name in ("weight_decay", "update_global_norm_clip"):
        values = {each.label(): getattr(each, name, None) or 0.0 for each in suite.optimizers}
        assert set(values.values()) == {0.0}, values


def test_the_quickstart_is_what_was_promised():
    suite = suites.from_file(FOLDER / "quickstart.py")
    assert {each.dim for each in suite.tasks if each.name == "rosenbrock"} >= {2, 100}
    assert len({each.condition for each in suite.tasks if each.name == "quadratic"}) >= 2
    assert {"mlp", "resnet", "transformer"} <= {each.name for each in suite.tasks}
    assert suite.trials >= 8
    assert suite.seeds == 5


def test_an_axis_is_its_tasks():
    whole = Request(suite="scaling").resolve()
    assert {task for name in whole.axes for task in whole.axis(name)} == set(whole.tasks)
    some = Request(suite="scaling", axis=("batch,law",)).resolve()
    assert some.tasks == (*whole.axis("batch"), *whole.axis("law"))
    assert {task.batch for task in whole.axis("batch")} == {4, 16, 64, 256}


def test_the_options_of_a_request_replace_those_of_the_suite():
    request = Request(
        opt=("kron[b1=0.5],adam", "sgd"),
        task=("quadratic[dim=3]",),
        lr=("0.1,0.2", "0.3"),
        schedule="cosine[warmup=0.1]",
        dtype="float64",
        seeds=2,
        steps=11,
    )
    cells = request.cells()
    assert len(cells) == 3 * 3 * 2
    assert [cell.optimizer.name for cell in cells[::6]] == ["kron", "adam", "sgd"]
    assert {cell.schedule for cell in cells} == {Schedule("cosine", 0.1)}
    found = {(cell.dtype, cell.steps, cell.task.label()) for cell in cells}
    assert found == {("float64", 11, "quadratic[dim=3]")}


def test_a_request_is_resolved_once(monkeypatch, tmp_path):
    from optbench.execute.order import Order
    from optbench.execute.session import Session

    counted, real = [], Request.resolve
    monkeypatch.setattr(Request, "resolve", lambda self: counted.append(self) or real(self))
    session = Session(Order.of(Request(task=("quadratic_10",), opt=("adam",), results=str(tmp_path))))
    assert session.missing == 9 * 2 + 5
    assert session.frame().empty
    assert len(counted) == 1
