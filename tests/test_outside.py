"""A newcomer's things, in a folder of his own: every extension point from outside the repository.

The files and commands are the README's own: its blocks of Python whose first line names a file, and its shell blocks in
that section.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SECTION = "## Your own optimizer, task, metric and suite"


def blocks(language: str) -> list[str]:
    """The blocks of a language in the README's section."""
    section = (ROOT / "README.md").read_text().partition(SECTION)[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the README's files."""
    found = tmp_path_factory.mktemp("newcomer")
    for text in blocks("python"):
        (found / text.splitlines()[0].removeprefix("# ")).write_text(text)
    return found


def typed(folder: Path, line: str, code: int = 0) -> str:
    """What a command prints, typed in a folder."""
    words = shlex.split(line)
    start = ["-m", "optbench", *words[1:]] if words[0] == "optbench" else words[1:]
    done = subprocess.run(
        [sys.executable, *start],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def printed(folder) -> dict[str, str]:
    """What each command of the section prints, in their order."""
    return {line: typed(folder, line) for text in blocks("bash") for line in text.splitlines()}


def test_every_command_of_the_section_works(printed, folder):
    text = "".join(printed.values())
    for name in ("mine:heavy_ball", "mine:signum", "mine:SignSGD", "circle"):
        assert name in text
    assert "Every check holds." in text
    assert "failed:" not in text
    report = (folder / "reports" / "quickstart" / "index.md").read_text()
    assert "heavy_ball" in report
    assert (folder / "reports" / "quickstart" / "table.tex").read_text().count("signum") >= 1


def test_the_same_command_again_computes_nothing(printed, folder):
    run = next(line for line in printed if "--metrics" in line)
    assert "nothing to compute" in typed(folder, run)
    assert "to compute" in typed(folder, run + ",param_norm"), "a metric that was not asked for before"


def test_the_metrics_are_curves(printed, folder):
    script = "import optbench; print(sorted(set(optbench.load().curves['metric'])))"
    (folder / "curves.py").write_text(script)
    assert typed(folder, "python curves.py").split("\n")[0].count("weight_norm") == 1


def test_the_script_runs_without_a_main_guard(printed, folder):
    text = typed(folder, "python script.py")
    assert "0 cells failed" in text
    assert (folder / "circle.png").stat().st_size > 10_000


def test_edited_code_is_another_cell_and_the_older_one_is_named(printed, folder):
    line = "optbench run --task mine:Circle --opt mine:heavy_ball --seeds 1 --trials 2 --steps 20"
    typed(folder, line)
    source = (folder / "mine.py").read_text()
    try:
        (folder / "mine.py").write_text(source + "\n# a comment\n")
        assert "nothing to compute" in typed(folder, line)
        (folder / "mine.py").write_text(source.replace("- learning_rate * m", "- 0.5 * learning_rate * m"))
        assert "0 stored, 2 to compute" in typed(folder, line)
        script = "import optbench; f = optbench.load(older=True).frame; print(sorted(set(f[f.steps == 20].optimizer)))"
        (folder / "older.py").write_text(script)
        names = typed(folder, "python older.py")
        assert len(re.findall(r"mine:heavy_ball", names)) == 2
        assert "(code " in names
    finally:
        (folder / "mine.py").write_text(source)


def test_an_installed_package_offers_things_by_entry_points(folder):
    info = folder / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    points = {
        "optimizers": "ball = mine:heavy_ball",
        "tasks": "ring = mine:Circle",
        "suites": "asked = question:suite",
    }
    points["metrics"] = "weights = mine:weight_norm"
    text = "".join(f"[optbench.{kind}]\n{point}\n" for kind, point in points.items())
    (info / "entry_points.txt").write_text(text)
    for kind, point in points.items():
        assert point.split()[0] in typed(folder, f"optbench list {kind}")
    assert "optbench: question, 45 cells" in typed(folder, "optbench run --suite asked --dry-run")
    line = "optbench run --task ring --opt ball --metrics weights --seeds 1 --trials 2 --steps 20 --results theirs"
    assert "ball" in typed(folder, line)


def test_a_notebook_runs_its_own_things(folder):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cell = nbformat.v4.new_code_cell
    cells = [
        "import numpy as np, optbench, warnings",
        "class Bowl(optbench.Task):\n"
        "    def init(self, seed):\n        return {'x': np.ones(3)}\n"
        "    def loss(self, params, batch):\n        return (params['x'] ** 2).sum()\n"
        "def mine(params, state, grads, step, learning_rate=0.1):\n"
        "    return {k: params[k] - learning_rate * grads[k] for k in params}, state",
        "r = optbench.run([mine, 'adam'], task=Bowl, seeds=1, trials=2, steps=20, results='notebook'); r",
        "print(sorted(set(r.frame.optimizer)), len(list(__import__('pathlib').Path('notebook/runs').glob('*'))))",
    ]
    book = nbformat.v4.new_notebook(cells=[cell(text) for text in cells])
    nbclient.NotebookClient(book, timeout=250, resources={"metadata": {"path": str(folder)}}).execute()
    shown = json.dumps([dict(out) for out in book.cells[2].outputs])
    assert "text/html" in shown
    assert "'adam', 'mine'] 0" in book.cells[3].outputs[0]["text"], "unnamed things stay out of the store"


OLDER_PATHS = '''
"""Does my own task work, with my own optimizer beside adam?"""
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from optbench.core import Functions, Optimizer, Target, Task, hyper
from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task


@dataclass(frozen=True, kw_only=True)
class MyBowl(Task):
    name: ClassVar[str] = "my_bowl"
    source: ClassVar[str] = "mine"

    def init(self, seed):
        return {"x": np.full(5, 1.0 + 0.1 * seed)}

    def jax(self):
        import jax.numpy as jnp
        scale = jnp.arange(1.0, 6.0)

        def loss(params, data, draw):
            return 0.5 * jnp.sum(scale * params["x"] ** 2)

        return Functions(loss, lambda params, data: {"loss": loss(params, data, {})})

    def flops(self):
        return 30.0

    def targets(self):
        return (Target("loss", 1e-2), Target("loss", 1e-4))


@dataclass(frozen=True, kw_only=True)
class SignMomentum(Optimizer):
    name: ClassVar[str] = "sign_momentum"
    learning_rate: float = hyper(1e-3, "step size", bounds="(0, inf)", lane=True, sweep=(1e-5, 1e-1))

    def jax(self, setting):
        import optax
        from optbench.rules.optax import OptaxRule
        rate = self.learning_rate
        steps = optax.scale_by_learning_rate(lambda t: rate * setting.factor(t))
        return OptaxRule(optax.chain(optax.trace(0.9), optax.scale_by_sign(), steps))


suite = Suite(
    name="own", tasks=(MyBowl(), task("quadratic_10")), optimizers=(SignMomentum(), optimizer("adam")),
    trials=3, seeds=2, steps=60,
)
'''


def test_a_suite_with_classes_of_its_own_by_the_older_import_paths(folder):
    (folder / "own_suite.py").write_text(OLDER_PATHS)
    line = "optbench run --suite own_suite.py --jobs 2 --results own"
    assert "sign_momentum" in typed(folder, line)
    assert "nothing to compute" in typed(folder, line)
    text = typed(folder, "optbench report --suite own_suite.py --results own --out own-reports")
    assert "2 problems, 2 optimizers" in text
    command = text.partition("Next: ")[2].splitlines()[0]
    assert "to compute" in typed(folder, command)


@pytest.mark.parametrize(
    ("code", "target", "said"),
    [
        ("def f(learning_rate):\n    return optax.sgd(0.1)", "f", "learning rate has no effect"),
        ("def f(params, state, grads, step):\n    return params, state", "f", "parameters never change"),
        (
            "def f(learning_rate):\n    return optax.scale_by_learning_rate(learning_rate, flip_sign=False)",
            "f",
            "sign",
        ),
        (
            "def f(params, state, grads, step, learning_rate=0.1):\n"
            "    return {k: p - learning_rate * random.random() * grads[k] for k, p in params.items()}, state",
            "f",
            "random state",
        ),
        (
            "def f(learning_rate):\n    return optax.GradientTransformation(lambda p: (), lambda g, s, p=None: "
            "(jax.tree.map(lambda x: x.sum(), g), s))",
            "f",
            "has shape ()",
        ),
        ("class T(optbench.Task):\n    pass", "T", "it has no loss"),
        (
            "class T(optbench.Task):\n    def init(self, seed):\n        return {'x': np.ones(3)}\n"
            "    def loss(self, params, batch):\n        return params['x'] ** 2",
            "T",
            "must be one number",
        ),
        ("def f(learning_rate):\n    return optax.sgd(learning_rate * wrong)", "f", "line 9"),
    ],
)
def test_a_newcomers_mistake_is_a_sentence_before_anything_runs(folder, code, target, said):
    (folder / "slips.py").write_text(
        f"import random\nimport jax\nimport numpy as np\nimport optax\nimport optbench\n\n\n{code}\n"
    )
    word = "--task" if target == "T" else "--opt"
    text = typed(
        folder, f"optbench run {word} slips:{target} --steps 5 --seeds 1 --trials 2 --results slips", code=2
    )
    assert said in text
    assert "Traceback" not in text
