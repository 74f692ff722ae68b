"""No network, no code from files, nothing that a name can break out of, and no folder that others can write to."""

import ast
import io
import os
import re
import subprocess
import sys
from csv import reader
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optbench.environment import cache_folder
from optbench.report import resolve
from optbench.report.content import Content
from optbench.report.markdown import slug
from optbench.report.selection import Selection
from optbench.report.tex import table
from optbench.report.write import csv, write_comparison
from optbench.suite import Suite, load
from tests.test_report import grid, index, page, stored

ROOT = Path(__file__).parent.parent
REFUSE = """
import socket

def refused(self, address, *rest):
    raise RuntimeError(f"network: {address!r}")

for name in ("connect", "connect_ex", "sendto", "bind"):
    real = getattr(socket.socket, name)
    def call(self, address, *rest, real=real):
        return real(self, address, *rest) if self.family == socket.AF_UNIX else refused(self, address)
    setattr(socket.socket, name, call)
socket.getaddrinfo = lambda *given, **rest: refused(None, given)
"""
"""A `sitecustomize` that every process of a run imports, workers too."""
SMALL = "--task rosenbrock_2 --opt adam,sgd --trials 2 --seeds 2 --steps 20 --jobs 1"


def alone(folder: Path, *commands: str) -> None:
    (folder / "sitecustomize.py").write_text(REFUSE)
    variables = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    for command in ("-c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1\")'", *commands):
        words = [sys.executable, *(["-m", "optbench"] if not command.startswith("-c") else [])]
        words += ["-c", command[4:-1]] if command.startswith("-c") else command.split()
        done = subprocess.run(
            words, cwd=folder, env=variables, capture_output=True, text=True, timeout=280, check=False
        )
        if command.startswith("-c"):
            assert "network: " in done.stderr, "sockets are not refused, so the test says nothing"
        else:
            assert "network: " not in done.stdout + done.stderr, command
            assert done.returncode in (0, 4), (command, done.stdout, done.stderr)


def test_list_and_show_use_no_network(tmp_path):
    alone(tmp_path, "list optimizers", "show kron", f"run {SMALL} --dry-run")


@pytest.mark.slow
def test_nothing_uses_the_network(tmp_path):
    alone(
        tmp_path, f"run {SMALL}", f"run {SMALL} --framework torch", "report --task rosenbrock_2",
        "try adam --against sgd --tasks rosenbrock_2 --budget 5s",
        "check --opt sgd --baseline own.tsv --update", "check --opt sgd --baseline own.tsv",
    )  # fmt: skip


FROM_MEMORY = ("origin.py", "torch_crew.py", "torch_use.py")
"""What the driver sends its workers, and copies that a check makes in memory."""


def test_no_code_comes_from_a_file():
    """pickle is read from the driver's memory only; NumPy and torch are asked for data."""
    found = []
    for path in [*ROOT.glob("optbench/**/*.py"), *ROOT.glob("claims/**/*.py"), *ROOT.glob("suites/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name, given = (
                ast.unparse(node.func),
                {word.arg: ast.unparse(word.value) for word in node.keywords},
            )
            bad = name in ("eval", "exec") or (name in ("pickle.load", "pickle.loads", "marshal.loads"))
            bad |= name == "torch.load" and given.get("weights_only") != "True"
            bad |= name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False"
            bad |= name in ("tempfile.mktemp",)
            if bad and path.name not in FROM_MEMORY:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    assert found == []


HOSTILE = (
    "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "@SUM(A1)", "\\input{/etc/passwd}", "[x](javascript:alert(1))",
    "a\n\n# head", "{{ 7*191 }}", "'\"><img src=x onerror=alert(1)>",
)  # fmt: skip
NAMES = ("adam", "sgd", "kron", "novograd", "lion", "yogi", "lamb", "adan")


def test_a_label_in_a_result_file_imports_no_file_elsewhere(tmp_path):
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()")
    for path in (f"{tmp_path}/evil.py:make", f"{os.path.relpath(tmp_path)}/evil.py:make[b1=0.9]"):
        assert resolve.optimizer(path) is None
    assert not (tmp_path / "ran").exists()


def test_a_cell_of_a_table_is_no_formula():
    names = ["=1+1", "@SUM(A1)", "-2", "+3", "\t4", "a=1"]
    rows = csv_rows(csv(pd.DataFrame({"optimizer": names, "loss": [-1.0] * len(names)})))
    assert rows[1:] == [[f"'{name}" if name != "a=1" else name, "-1"] for name in names]


@pytest.mark.slow
def test_a_name_in_a_result_file_stays_a_name(tmp_path):
    store = stored(tmp_path / "results", *(grid(opt=name, seeds=2, trials=2) for name in NAMES))
    for number, (path, name) in enumerate(zip(store.files(), HOSTILE, strict=True)):
        rows = pq.read_table(path)
        place = rows.column_names.index("optimizer")
        hostile = rows.set_column(place, "optimizer", pa.array([name] * len(rows)))
        pq.write_table(hostile, store.runs / f"hostile{number}.parquet")
        path.unlink()
    content = Content.of(Selection(task=("quadratic_10",), results=str(store.folder)), store)
    assert set(content.optimizers) == set(HOSTILE)
    html, tex, text = page(content), table(content), index(content).partition("## Reproduce")[0]
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "1337" not in html
    assert not [line for line in tex.splitlines() if r"\input{" in line and not line.startswith("%")]
    assert not re.search(r"(?<!\\)\]\(javascript:", text)
    assert "\n# head" not in text
    assert not [cell for row in csv_rows(csv(content.summary)) for cell in row if cell[:1] in ("=", "@")]


def csv_rows(data: bytes) -> list[list[str]]:
    return list(reader(io.StringIO(data.decode())))


@pytest.mark.parametrize("name", ["../../outside", "..", "/tmp/outside"])
def test_a_report_stays_in_its_folder(tmp_path, name):
    assert re.fullmatch(r"[\w-][\w.-]*", slug(name))
    store = stored(tmp_path / "deep" / "results", grid(seeds=2, trials=2))
    own = load("quickstart")
    out = tmp_path / "deep" / "down" / "reports"
    selection = Selection(suite=Suite(name, own.tasks, own.optimizers), task=("quadratic_10",))
    folder, _ = write_comparison(str(store.folder), str(out), selection, [str(store.folder)] * 2)
    assert folder.resolve().is_relative_to(out)
    assert folder.resolve() != out
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}


def test_a_cache_folder_that_cannot_be_made_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    code = "from optbench.execute import worker; worker.jax_engine('cpu')"
    variables = {**os.environ, "OPTBENCH_CACHE": str(tmp_path / "file" / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("OPTBENCH_CACHE", "")  # as if it were not set
    assert cache_folder().name == "optbench"
