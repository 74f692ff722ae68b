"""Optimizers of other packages: what is typed, what is said, and that they run."""

import pickle
import sys

import numpy as np
import pytest

from optbench import optimizers
from optbench.cell import Cell, Schedule, Status
from optbench.fields import UserError
from tests.contract import TINY_QUADRATIC, cells_of, check

MODULE = '''
import jax
import optax
import torch

from optbench.protocol import Counts, Step
from optbench.optimizers.adapter import Standard


def make(learning_rate, b1=0.9):
    return optax.chain(optax.trace(b1), optax.scale_by_learning_rate(learning_rate))


def needy(learning_rate, rank):
    return optax.sgd(learning_rate)


def plain():
    return optax.scale(-0.1)


def number(learning_rate: float, factor: float = 1.0):
    return optax.scale(-learning_rate * factor)


class Descent:
    def __init__(self, rate):
        self.rate = rate

    def init(self, params):
        return ()

    def step(self, params, state, objective, t):
        loss, grads = objective.value_and_grad(params)
        moved = jax.tree.map(lambda p, g: p - self.rate(t) * g, params, grads)
        return Step(moved, state, loss, Counts(gradients=1))

    def evaluated(self, params, state):
        return params


def rule(learning_rate):
    return Descent(learning_rate)


class Mine(torch.optim.SGD):
    """Keeps the parameters elsewhere while it trains."""

    away = 0

    def train(self):
        self.away += 1

    def eval(self):
        self.away -= 1


class Packaged(Standard):
    name = "packaged"
    source = "doi:10.1000/1"
    memory = "0"

    def in_optax(self, optax, rate):
        return optax.sgd(lambda t: 0.1 * rate(t))
'''


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory):
    """A package of somebody else, with entry points."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "somebodys.py").write_text(MODULE)
    (folder / "broken.py").write_text("1 / 0\n")
    info = folder / "somebodys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[optbench.optimizers]\ntheirs = somebodys:make\npackaged = somebodys:Packaged\n"
    )
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.mark.parametrize(
    "text",
    [
        "optax:yogi",
        "optax:sm3",  # its learning rate is a number
        "optax:polyak_sgd",  # it has none, and asks for the loss
        "optax.contrib:schedule_free_sgd[b1=0.8]",
        "somebodys:make[b1=0.5,sweep=1e-5:1e-1]",
        "somebodys:rule",
        "theirs[b1=0.5]",
        "torch:NAdam[momentum_decay=0.01]",
        "torch.optim:LBFGS[line_search_fn=strong_wolfe]",
        "somebodys:Mine[momentum=0.9]",
    ],
)
def test_a_target_holds_the_contract(text):
    optimizer = optimizers.parse(text)
    check(optimizer, TINY_QUADRATIC, framework=optimizer.frameworks()[0])


def test_a_cell_of_a_target_survives_json_in_another_process():
    for text in ("optax:yogi[b1=0.8]", "theirs[b1=0.5]", "packaged", "torch:SGD[nesterov=true,momentum=0.9]"):
        optimizer = optimizers.parse(text)
        cell = Cell(TINY_QUADRATIC, optimizer, framework=optimizer.frameworks()[0])
        again = pickle.loads(pickle.dumps(cell))
        assert again == cell
        assert hash(again) == hash(cell)
        assert again.id() == cell.id()


def test_options_in_another_order_are_the_same_optimizer():
    one, other = (optimizers.parse(f"optax:yogi[{inside}]") for inside in ("b1=0.8,eps=1", "eps=1,b1=0.8"))
    assert one == other
    assert one.label() == other.label() == "optax:yogi[b1=0.8,eps=1]"
    assert optimizers.parse(one.label()) == one


def test_the_sweep_is_four_decades_unless_said_and_then_too():
    def ends(text):
        optimizer = optimizers.parse(text)
        assert optimizers.parse(optimizer.label()) == optimizer
        return [trial.learning_rate for trial in optimizer.trials(5)][::4]

    assert ends("optax:yogi") == [1e-4, 1.0]
    assert ends("optax:yogi[sweep=1e-6:1e-2]") == [1e-6, 1e-2]
    assert optimizers.parse("optax:polyak_sgd").trials(5) == [optimizers.parse("optax:polyak_sgd")]
    with pytest.raises(UserError, match="four decades"):
        optimizers.parse("optax:yogi[sweep=1e-3:1e-2]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optax:adabelif", "Did you mean adabelief"),
        ("torch:Nadam", "Did you mean NAdam"),
        ("nowhere.at_all:make", "not installed"),
        ("broken:make", "ZeroDivisionError"),
        ("optax:", "no target"),
        ("optax:yogi[b4=1]", "no option 'b4'"),
        ("optax:yogi[b1=much]", "is not a number"),
        ("torch:SGD[nesterov=3]", "is not True or False"),
        ("optax:yogi[learning_rate=0.1]", "--lr 0.1"),
        ("torch:SGD[params=1]", "no option 'params'"),
        ("somebodys:needy", "needs rank"),
        ("somebodys:Descent", "not of torch.optim.Optimizer"),
        ("optax:__version__", "not a function"),
    ],
)
def test_what_cannot_be_is_said(text, said):
    with pytest.raises(UserError, match=said):
        optimizers.parse(text)


def test_the_page_of_a_target_has_its_docstring(tmp_path):
    from optbench.pages import page

    (tmp_path / "own.py").write_text('def make(learning_rate, b1=0.9):\n    """Half of a method."""\n')
    text, facts = page(f"{tmp_path / 'own.py'}:make")
    assert facts["description"] == "Half of a method."
    assert "Half of a method." in text


def test_a_target_has_a_page():
    from optbench.pages import page

    assert "optax:yogi[b1=0.5]" in page("optax:yogi[b1=0.5]")[0]
    assert "packaged" in page("packaged")[0].lower()


def losses(text, factors, framework):
    from tests.contract import run

    optimizer = optimizers.parse(text)
    schedule = Schedule("linear")
    cell = next(iter(cells_of(optimizer, TINY_QUADRATIC, steps=4, rates=1, seeds=1, framework=framework)))
    cell = Cell(cell.task, cell.optimizer, schedule, framework, steps=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Schedule, "factors", lambda self, steps: np.array(factors, float))
        (trace,) = run([cell])
    assert trace.status is Status.DONE
    return trace.losses


@pytest.mark.parametrize("text", ["somebodys:number", "somebodys:plain", "somebodys:rule"])
def test_a_factor_of_0_stands_still(text):
    found = losses(text, [1, 0, 0, 1], "jax")
    assert found[0] > found[1] == found[2] == found[3]


def test_an_optimizer_with_train_and_eval_is_evaluated_between_them():
    import torch
    from somebodys import Mine

    from optbench.rules.torch import TorchRule

    params = {"x": torch.ones(2, requires_grad=True)}
    rule = TorchRule(lambda named: Mine([p for _, p in named], lr=0.1), lambda t: 1.0)
    state = rule.init(params)
    assert state.away == 1
    found = rule.evaluated(params, state)
    assert state.away == 1
    assert found["x"] is not params["x"]
