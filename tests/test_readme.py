"""The commands of the README are executed or parsed; the wheel of `pip install .` has everything."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import opening
from tests.process import python

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RUN = "pip install -e . && optbench run --suite quickstart --opt kron,adam,novograd"
TEST = "pip install -e '.[test]' && pytest"
CHEAP = ("--task", "rosenbrock_2", "--lr", "0.01", "--seeds", "1", "--steps", "20", "--jobs", "1")


PAGES = [README, *(ROOT / "docs" / f"{name}.md" for name in ("index", "gpus"))]


def commands(page: Path = README) -> list[str]:
    """The lines of a page's bash blocks, without comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [re.sub(r"\s+#.*", "", line).strip() for line in "".join(blocks).splitlines()]


def test_the_two_commands_are_there_and_the_first_runs(tmp_path):
    assert {RUN, TEST} <= set(commands())
    words = shlex.split(RUN.partition("&&")[2])
    done = python("-m", *words, *CHEAP, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for optimizer in ("kron", "adam", "novograd"):
        assert re.search(rf"^rosenbrock_2 +{optimizer} ", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_one_that_optbench_understands(page):
    import tyro

    from optbench.cli import REGISTRY, Command
    from optbench.execute.request import Request

    parts = [part.strip() for line in commands(page) for part in line.split("&&")]
    lines = [part for part in parts if part.startswith("optbench ")]
    assert lines
    for line in lines:
        command = tyro.cli(Command, prog="optbench", args=shlex.split(line)[1:], registry=REGISTRY)
        if isinstance(command, Request) and "mine" not in line and "question.py" not in line:
            assert command.cells(), line


def test_the_number_of_claims_is_that_of_the_code():
    from optbench.claim import every

    for document in (README, ROOT / "CHANGELOG.md"):
        [count] = re.findall(r"`optbench claims`:? (?:holds |tests )?(\d+)", document.read_text())
        assert int(count) == len(every())


@pytest.mark.slow
def test_a_wheel_holds_the_package_its_suites_and_its_claims(tmp_path):
    pytest.importorskip("setuptools", "77", reason="a test downloads nothing")
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

    # It runs from there, in a folder without the checkout.
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", site, wheel], **run)
    elsewhere.mkdir()

    def output(*words):
        environment = {**os.environ, "PYTHONPATH": str(site)}
        return subprocess.run([sys.executable, *words], cwd=elsewhere, env=environment, **run).stdout

    assert "quickstart" in output("-m", "optbench", "list", "suites")
    file = output("-c", "import optbench.suites.quickstart as q; print(q.__file__)").strip()
    assert file == str(site / "optbench" / "suites" / "quickstart.py")
    modules_of = (
        "from optbench.claim import every; print({a.measurement.function().__module__ for a in every()})"
    )
    assert "optbench.claims.programs.ngc" in output("-c", modules_of)


def test_no_page_has_an_unresolved_merge():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "CITATION.cff"]
    assert not [page.name for page in pages if "<<<<<<<" in page.read_text() or ">>>>>>>" in page.read_text()]


@pytest.mark.slow
def test_the_opening_says_what_the_rows_of_the_grand_comparison_say():
    assert opening.WITHIN.search(README.read_text())[0] == opening.opening(opening.content())
