"""What the README tells people to type, typed; and the wheel that `pip install .` makes."""

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RUN = "pip install -e . && optbench run --suite quickstart --opt kron,adam,novograd"
TEST = "pip install -e '.[test]' && pytest"
CHEAP = ("--task", "rosenbrock_2", "--lr", "0.01", "--seeds", "1", "--steps", "20", "--jobs", "1")

needs_readme = pytest.mark.skipif(not README.exists(), reason="there is no README.md yet")


def commands() -> list[str]:
    """The lines of the README's fenced bash blocks, without prompts, comments and what is printed."""
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [
        re.sub(r"\s+#.*", "", line).removeprefix("$ ").strip() for line in lines if not line.startswith("#")
    ]


@needs_readme
def test_the_two_commands_stand_there_in_full():
    assert {RUN, TEST} <= set(commands())


@needs_readme
def test_the_run_command_runs(tmp_path):
    [line] = [line for line in commands() if line == RUN]
    words = shlex.split(line.partition("&&")[2])
    assert words[0] == "optbench"
    done = subprocess.run(
        [sys.executable, "-m", "optbench", *words[1:], *CHEAP],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for optimizer in ("kron", "adam", "novograd"):
        assert re.search(rf"^rosenbrock_2 +{optimizer} ", done.stdout, re.MULTILINE), done.stdout


@needs_readme
def test_every_command_is_one_that_optbench_understands():
    import tyro

    from optbench.cli import REGISTRY, Command
    from optbench.execute.request import Request

    found = [
        part.strip()
        for line in commands()
        for part in line.split("&&")
        if part.strip().startswith("optbench ")
    ]
    assert found
    for line in found:
        command = tyro.cli(Command, prog="optbench", args=shlex.split(line)[1:], registry=REGISTRY)
        if isinstance(command, Request) and "mine:" not in line and "question.py" not in line:
            assert command.cells(), line


@needs_readme
def test_the_number_of_claims_is_that_of_the_code():
    from optbench.claim import every

    for document in (README, ROOT / "CHANGELOG.md"):
        [count] = re.findall(r"`optbench claims`:? (?:holds |tests )?(\d+)", document.read_text())
        assert int(count) == len(every())


@pytest.mark.slow
@needs_readme
def test_a_wheel_holds_the_package_its_suites_and_its_claims(tmp_path):
    try:
        setuptools = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        setuptools = "0"
    if int(setuptools.partition(".")[0]) < 77:
        pytest.skip("setuptools 77 or newer is not installed here, and a test downloads nothing")
    source = tmp_path / "source"
    skip = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "results", "reports")
    shutil.copytree(ROOT, source, ignore=skip)
    run = dict(check=True, capture_output=True, text=True, timeout=240)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source], **run)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())

    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "optbench").rglob("*.py")}
    assert modules - names == set(), "modules that the wheel lacks"
    content = [path for folder in ("suites", "claims") for path in (ROOT / folder).rglob("*.py")]
    assert {f"optbench/{path.relative_to(ROOT)}" for path in content} <= names
    assert "optbench/py.typed" in names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"optbench"}
    assert any(name.endswith("licenses/LICENSE") for name in names)

    # It runs from there, in a folder that knows nothing of the checkout.
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", site, wheel], **run)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    listed = subprocess.run(
        [sys.executable, "-m", "optbench", "list", "suites"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        **run,
    )
    assert "quickstart" in listed.stdout
    where = "import optbench.suites.quickstart as q; print(q.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=elsewhere, env={**os.environ, "PYTHONPATH": str(site)}, **run
    )
    assert found.stdout.strip() == str(site / "optbench" / "suites" / "quickstart.py")
    call = "from optbench.claim import every; print({a.measurement.function().__module__ for a in every()})"
    called = subprocess.run(
        [sys.executable, "-c", call], cwd=elsewhere, env={**os.environ, "PYTHONPATH": str(site)}, **run
    )
    assert "optbench.claims.programs.ngc" in called.stdout
