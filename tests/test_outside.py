"""A newcomer's things, in a folder of his own: every extension point from outside the repository.

The files and commands are the README's own: its blocks of Python whose first line names a file, and its shell blocks in
that section.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import optbench
from optbench.api import named
from optbench.fields import UserError
from optbench.terminal import vet_in_terminal
from optbench.testing import check_task
from tests.process import command, python

ROOT = Path(__file__).parent.parent
SECTION = "## Your own optimizer, task, metric and suite"
SMALL = "--seeds 1 --trials 2 --steps 20 --no-vet"


def blocks(language: str) -> list[str]:
    """The blocks of a language in the README's section."""
    section = (ROOT / "README.md").read_text().partition(SECTION)[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("newcomer")
    for text in blocks("python"):
        (path / text.splitlines()[0].removeprefix("# ")).write_text(text)
    return path


def output(folder: Path, line: str, *codes: int) -> str:
    """What a command prints in a folder."""
    program, *words = shlex.split(line)
    done = (command if program == "optbench" else python)(*words, cwd=folder, COLUMNS="100")
    assert done.returncode in (codes or (0,)), done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_every_command_of_the_section_works_and_again_computes_nothing(folder):
    lines = [line for text in blocks("bash") for line in text.splitlines()]
    text = "".join(output(folder, line) for line in lines)
    for name in ("mine:heavy_ball", "mine:signum", "mine:SignSGD", "circle"):
        assert name in text
    assert "Every check holds." in text
    assert "failed:" not in text
    report = folder / "reports" / "quickstart"
    assert "heavy_ball" in (report / "index.md").read_text()
    assert "signum" in (report / "table.tex").read_text()
    assert "weight_norm" in set(optbench.load(folder / "results").curves["metric"])
    run = next(line for line in lines if "--metrics" in line)
    assert "nothing to compute" in output(folder, run)
    assert "39 to compute" in output(folder, f"{run},param_norm --dry-run"), "a metric that no row has"


@pytest.mark.slow
def test_the_script_runs_without_a_main_guard(folder):
    text = output(folder, "python script.py")
    assert "0 cells failed" in text
    assert (folder / "circle.png").stat().st_size > 10_000


@pytest.mark.slow
def test_edited_code_is_another_cell_and_the_older_one_is_named(folder):
    line = f"optbench run --task mine:Circle --opt mine:heavy_ball --results edited {SMALL}"
    output(folder, line)
    source = (folder / "mine.py").read_text()
    try:
        (folder / "mine.py").write_text(source + "\n# a comment\n")
        assert "nothing to compute" in output(folder, line)
        (folder / "mine.py").write_text(source.replace("- learning_rate * m", "- 0.5 * learning_rate * m"))
        assert "0 stored, 5 to compute" in output(folder, line)
        (folder / "mine.py").write_text(source)
        again = output(folder, line)
        assert again.count("nothing to compute") == 2
        assert "optbench show mine:heavy_ball" in again, "the edited code hides it"
    finally:
        (folder / "mine.py").write_text(source)
    names = set(optbench.load(folder / "edited", older=True).frame["optimizer"])
    assert len(names) == 2
    assert sum("(code " in name for name in names) == 1
    older = output(folder, "optbench report --task mine:Circle --results edited --trials 2 --older")
    assert "--opt mine:heavy_ball " in older.partition("Next: ")[2]


def test_an_installed_package_offers_things_by_entry_points(folder):
    info = folder / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    points = {
        "optimizers": "ball = mine:heavy_ball\nbroken = mine:nowhere",
        "tasks": "ring = mine:Circle",
        "suites": "asked = question:suite",
        "metrics": "weights = mine:weight_norm",
    }
    text = "".join(f"[optbench.{kind}]\n{point}\n" for kind, point in points.items())
    (info / "entry_points.txt").write_text(text)
    (folder / "lists.py").write_text(
        f"from optbench import pages\nfor kind in {[*points]}:\n"
        "    print(kind, pages.as_table(pages.listing(kind)), sep='\\n')\n"
    )
    listed = output(folder, "python lists.py")
    for kind, point in points.items():
        name = point.split()[0]
        assert re.search(rf"^{kind}\n(?:.+\n)*{name} ", listed, re.MULTILINE), listed
    assert "left out broken: " in listed
    line = f"optbench run --suite asked --task ring --opt ball --metrics weights --results theirs {SMALL}"
    text = output(folder, line)
    assert "optbench: question, 2 cells" in text
    assert "ball" in text


@pytest.mark.slow
def test_a_notebook_runs_its_own_things(folder):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cells = [
        "import numpy as np, optbench\n"
        "class Bowl(optbench.Task):\n"
        "    def init(self, seed):\n        return {'x': np.ones(3)}\n"
        "    def loss(self, params, batch):\n        return (params['x'] ** 2).sum()\n"
        "def mine(params, state, grads, step, learning_rate=0.1):\n"
        "    return {k: params[k] - learning_rate * grads[k] for k in params}, state",
        "r = optbench.run([mine, 'adam'], task=Bowl, seeds=1, trials=2, steps=20, results='notebook'); r",
        "print(sorted(set(r.frame.optimizer)), len(list(__import__('pathlib').Path('notebook/runs').glob('*'))))",
    ]
    book = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, cells)])
    nbclient.NotebookClient(book, timeout=250, resources={"metadata": {"path": str(folder)}}).execute()
    assert any("text/html" in out.get("data", ()) for out in book.cells[1].outputs)
    assert "'adam', 'mine'] 0" in book.cells[2].outputs[0]["text"], "unnamed things stay out of the store"


OLDER_PATHS = '''
"""Does my own task work, with my own optimizer beside adam?"""
from dataclasses import dataclass
from typing import ClassVar
import jax.numpy as jnp
import numpy as np
import optax
from optbench.core import Functions, Optimizer, Target, Task, hyper
from optbench.optimizers import parse as optimizer
from optbench.rules.optax import OptaxRule
from optbench.suite import Suite
from optbench.tasks import parse as task


@dataclass(frozen=True, kw_only=True)
class MyBowl(Task):
    name: ClassVar[str] = "my_bowl"

    def init(self, seed):
        return {"x": np.full(5, 1.0 + 0.1 * seed)}

    def jax(self):
        def loss(params, data, draw):
            return 0.5 * jnp.sum(jnp.arange(1.0, 6.0) * params["x"] ** 2)

        return Functions(loss, lambda params, data: {"loss": loss(params, data, {})})

    def targets(self):
        return (Target("loss", 1e-2), Target("loss", 1e-4))


@dataclass(frozen=True, kw_only=True)
class SignMomentum(Optimizer):
    name: ClassVar[str] = "sign_momentum"
    learning_rate: float = hyper(1e-3, "step size", bounds="(0, inf)", lane=True, sweep=(1e-5, 1e-1))

    def jax(self, setting):
        steps = optax.scale_by_learning_rate(lambda t: self.learning_rate * setting.factor(t))
        return OptaxRule(optax.chain(optax.trace(0.9), optax.scale_by_sign(), steps))


suite = Suite(
    name="own", tasks=(MyBowl(), task("quadratic_10")), optimizers=(SignMomentum(), optimizer("adam")),
    trials=3, seeds=2, steps=60,
)
'''


@pytest.mark.slow
def test_a_suite_with_classes_of_its_own_by_the_older_import_paths(folder):
    (folder / "own_suite.py").write_text(OLDER_PATHS)
    line = "optbench run --suite own_suite.py --jobs 1 --results own"
    assert "sign_momentum" in output(folder, line)
    assert "nothing to compute" in output(folder, line)
    text = output(folder, "optbench report --suite own_suite.py --results own --out own-reports")
    assert "2 tasks, 2 optimizers" in text
    command = text.partition("Next: ")[2].splitlines()[0]
    assert " to compute" in output(folder, f"{command} --dry-run")


SLIPS = """
import random
import jax
import numpy as np
import optax
import optbench

def no_rate(learning_rate):
    return optax.sgd(0.1)

def still(params, state, grads, step):
    return params, state

def uphill(learning_rate):
    return optax.scale_by_learning_rate(learning_rate, flip_sign=False)

def dice(params, state, grads, step, learning_rate=0.1):
    return {k: p - learning_rate * random.random() * grads[k] for k, p in params.items()}, state

def summed(learning_rate):
    return optax.GradientTransformation(lambda p: (), lambda g, s, p=None: (jax.tree.map(lambda x: x.sum(), g), s))

def misspelt(learning_rate):
    return optax.sgd(learning_rate * wrong)

def alone(params, state, grads, step):
    return params

def renames(params, state, grads, step):
    return {'x' + k: p - 0.1 * grads[k] for k, p in params.items()}, state

def boundless(params, state, grads, step, learning_rate=0.1):
    return {k: p - learning_rate * grads[k] / step for k, p in params.items()}, state

class Nothing(optbench.Task):
    pass

class Bowl(optbench.Task):
    def init(self, seed):
        return {'x': np.ones(3)}

    def loss(self, params, batch):
        return (params['x'] ** 2).sum()

class Goal(Bowl):
    def targets(self):
        return optbench.Target('loss', 1)

class Whole(Bowl):
    def init(self, seed):
        return {'x': np.arange(3)}

class Deep(Bowl):
    def init(self, seed):
        return {'x': {'y': np.ones(3)}}

class Beginless(optbench.Task):
    loss = Bowl.loss

class Flat(Bowl):
    def loss(self, params, batch):
        return 3.0

class Large(Bowl):
    batch_size = 5

    def data(self):
        return {'y': np.ones(3)}

class Vector(optbench.Task):
    def init(self, seed):
        return {'x': np.ones(3)}

    def loss(self, params, batch):
        return params['x'] ** 2
"""
VETTED = {
    "no_rate": "learning rate has no effect",
    "still": "parameters never change",
    "uphill": "sign",
    "dice": "random state",
    "summed": "has shape ()",
    "alone": "gives dict",
    "renames": "gives xb float32[4], xw float32[4, 3]",
    "boundless": "no number from step 1 on",
}
TASKS = {
    "Goal": "targets()",
    "Whole": "init(seed)['x'] is an array of int64",
    "Deep": "init(seed)['x'] is dict",
    "Beginless": "it has no init",
    "Flat": "Its gradient is 0",
    "Large": "5 is more than the 3 rows",
}


@pytest.mark.parametrize(
    ("option", "sentences"),
    [
        ("--opt", VETTED),
        ("--opt", {"misspelt": f"line {SLIPS.partition('wrong')[0].count(chr(10)) + 1}"}),
        ("--task", {"Nothing": "it has no loss"}),
        ("--task", {"Vector": "must be one number"}),
        ("--task", TASKS),
    ],
)
def test_a_newcomers_mistake_is_a_sentence_before_anything_runs(folder, option, sentences):
    (folder / "slips.py").write_text(SLIPS)
    names = ",".join(f"slips:{name}" for name in sentences)
    text = output(folder, f"optbench run {option} {names} --steps 5 --seeds 1 --trials 2 --results slips", 2)
    assert "Traceback" not in text
    for sentence in sentences.values():
        assert sentence in text


class Bare(optbench.Task):
    def init(self, seed):
        return {"x": np.ones(3)}


class Mlp(Bare):
    def loss(self, params, batch):
        return (params["x"] ** 2).sum()


class Table(Mlp):
    def data(self):
        return np.ones((3, 2))


class Absent(Mlp):
    def data(self):
        return {"x": np.loadtxt("nowhere.csv")}


class Sized(Mlp):
    def __init__(self, size):
        self.size = size


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"task": Table()}, r"data\(\) gives ndarray"),
        ({"task": Absent()}, r"nowhere\.csv"),
        # Their cells would have one id.
        ({"task": [Sized(3), Sized(4)]}, "keeps size outside of its fields"),
        ({"task": ["mlp", Mlp()]}, "two different ones"),
        (
            {"task": "tests.test_outside:Bare[x=1]"},
            "There are none. See: optbench show tests.test_outside:Bare",
        ),
        ({"opt": {"slow": "adam"}}, "cannot be called 'slow'"),
    ],
)
def test_a_mistake_is_a_sentence_before_a_folder_is_made(options, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        optbench.run(**{"task": "mlp", "opt": "adam", "results": tmp_path / "results"} | options)
    assert not any(tmp_path.iterdir())


def test_what_is_in_no_framework_is_not_vetted_as_sound():
    with pytest.raises(UserError, match="it has no loss"):
        check_task(Bare())
    with pytest.raises(UserError, match="it has no loss"):
        vet_in_terminal("tests.test_outside:Bare", None)


def test_a_dict_names_what_has_no_name_of_its_own():
    assert [each.label() for each in named({"mine": "optax:lion", "adam": "adam"})] == ["mine", "adam"]
