"""The commands of docs/import.md and docs/paper.md are executed, in a folder of their own, as a reader would."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("import.md", "paper.md")


def blocks(page: str) -> list[str]:
    found = re.findall(r"^```bash\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in found if "optbench " in block]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one_that_optbench_understands(page):
    import tyro

    from optbench.cli import REGISTRY, Command

    lines = [line for block in blocks(page) for line in block.splitlines() if line.startswith("optbench ")]
    assert lines
    for line in lines:
        tyro.cli(Command, prog="optbench", args=shlex.split(line)[1:], registry=REGISTRY)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_run(tmp_path, page):
    if page == "paper.md":
        pytest.importorskip("tueplots", reason="the extra `paper` is not installed")
    shell = f'optbench() {{ {shlex.quote(sys.executable)} -m optbench "$@"; }}\n'
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    for block in blocks(page):
        done = subprocess.run(
            ["bash", "-e", "-c", shell + block], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    wanted = {"import.md": "reports/imported/index.html", "paper.md": "paper/main.tex"}[page]
    assert (tmp_path / wanted).is_file()
