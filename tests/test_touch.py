"""Adding an optimizer, a task, a suite or a metric takes one new file and one edited file at most, none under tests/.

Each is added to a copy of the repository, as CONTRIBUTING.md describes, by a renamed copy of an existing one; the
linters and the tests that enumerate the catalogue then run there.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STANDARD, TASKS, METRICS = "optimizers/standard/__init__.py", "tasks/__init__.py", "metrics.py"
BALL, BOWL = "optimizers/standard/added.py", "tasks/added.py"
METRIC = '''def added(params: Any, objective: Any) -> Any:
    """The largest parameter."""
    return max(abs(part).max() for part in params.values())


LISTED ='''
FUTURE, CLASSES = "import annotations\n", "...] = (\n"
ADDED = {
    "optimizer": [
        ("optimizers/sgd.py", BALL, "class SGD(", "class AddedBall("),
        (STANDARD, STANDARD, FUTURE, f"{FUTURE}from optbench.optimizers.standard.added import AddedBall\n"),
        (STANDARD, STANDARD, CLASSES, f"{CLASSES}    AddedBall,\n"),
    ],
    "task": [
        ("tasks/rosenbrock.py", BOWL, "class Rosenbrock(", "class Added("),
        (BOWL, BOWL, '"rosenbrock', '"added_bowl'),
        (TASKS, TASKS, FUTURE, f"{FUTURE}from optbench.tasks.added import Added\n"),
        (TASKS, TASKS, CLASSES, f"{CLASSES}    Added,\n"),
    ],
    "suite": [("../suites/quickstart.py", "../suites/added_suite.py", "quickstart", "added-suite")],
    "metric": [
        (METRICS, METRICS, "LISTED =", METRIC),
        (METRICS, METRICS, "in (grad_norm, ", "in (added, grad_norm, "),
    ],
}
"""Of each kind, in order: file to read, file to write, text to replace, and by what."""
FILES = "contract growth engine_torch fields floors parity schedules standard suite tasks tuning report cli"
SELECTED = (
    "(added_ball or added_bowl or added_suite or tasks/added or standard/added) and not product and not thousand "
    "or committed_is_still or listed_has_a_page or same_number_of_different_trials or not_depend_on_the_company"
)
"""The tests that enumerate the catalogue."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_addition_takes_one_new_and_one_edited_file(tmp_path):
    def run(*words: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    git = ("git", "-c", "user.name=one", "-c", "user.email=one@example.org")
    ruff = (sys.executable, "-m", "ruff")
    run("sh", "-c", f"cd {ROOT} && git ls-files -z | tar -c --null -T - | tar -x -C {tmp_path}")
    run("git", "init", "-q")
    run(*git, "add", ".")
    run(*git, "commit", "-qm", "the repository")
    for kind, edits in ADDED.items():
        for source, target, old, new in edits:
            text = (tmp_path / "optbench" / source).read_text()
            assert old in text
            (tmp_path / "optbench" / target).write_text(text.replace(old, new))
        run(*ruff, "check", "-q", "--select", "I", "--fix")  # the order of imports
        touched = run(*git, "status", "--porcelain").splitlines()
        assert len({line[:2] for line in touched}) == len(touched), f"{kind}: {touched}"
        assert not [line for line in touched if "tests/" in line]
        run(*git, "add", ".")
        run(*git, "commit", "-qm", kind)
    for folder in ("suites", "claims"):  # as an editable install maps them
        (tmp_path / "optbench" / folder).symlink_to(tmp_path / folder)
    run(*ruff, "check")
    run(*ruff, "format", "--check")
    assert "added" in run(sys.executable, "-m", "optbench", "list", "metrics")
    files = [f"tests/test_{name}.py" for name in FILES.split()]
    run(sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "slow or not slow", "-k", SELECTED, *files)
