"""docs/querying.md and docs/clusters.md: their commands are run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import optbench
from optbench.execute.request import Request
from optbench.store import Store
from tests.grown import grow

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def results(tmp_path, monkeypatch) -> Store:
    monkeypatch.chdir(tmp_path)
    request = Request(task=("quadratic_10", "rosenbrock_2"), opt=("adam", "sgd"), seeds=2, steps=20)
    grow(tmp_path / "results", 0, request)
    return grow(tmp_path / "results", 0, request)  # every cell twice


def test_the_queries_of_the_page(results):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed: pip install duckdb")
    view, counts, medians, curves, hours = blocks("querying.md", "sql")
    database = duckdb.connect()
    database.execute(view)
    frame = results.frame()
    assert database.execute(counts).fetchall() == [
        (task, name, "done", int(count))
        for (task, name), count in frame.groupby(["task", "optimizer"]).size().items()
    ]
    final = frame.assign(last=frame["losses"].str[-1])
    best = final.groupby(["task", "optimizer", "trial"])["last"].median()
    assert {row[:3]: row[3] for row in database.execute(medians).fetchall()} == pytest.approx(best.to_dict())
    own = frame[frame["task"] == "quadratic_10"]
    rows = database.execute(curves).fetchall()
    assert len(rows) == own["steps_run"].sum()
    assert {row[4] for row in rows} == set(range(20))
    assert database.execute(hours).fetchall()[0][1] == pytest.approx((1 / frame["lanes"]).sum() / 3600)


def test_the_python_of_the_page(results):
    [code] = blocks("querying.md", "python")
    exec(code, {})
    assert len(optbench.load("results").frame) == len(results.frame())


@pytest.mark.slow
def test_an_array_of_jobs_equals_one_run(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'optbench[clusters]'")
    monkeypatch.chdir(tmp_path)
    [code] = blocks("clusters.md", "python")
    Path("shards.py").write_text(code)
    subprocess.run([sys.executable, "shards.py"], check=True, timeout=280)
    from optbench.merge import merge

    merged = merge([f"shard-{i}" for i in (1, 2, 3)], "merged")
    assert not merged.conflicts
    whole = optbench.run("adam,sgd", task="quadratic_10", seeds=2, steps=50, jobs=1, results="whole").frame
    joined = optbench.load("merged").frame.set_index("cell").loc[whole["cell"]]
    assert [each.tobytes() for each in joined["losses"]] == [each.tobytes() for each in whole["losses"]]


def test_the_shell_of_the_pages_is_understood():
    """Each command of the pages names options that there are."""
    import tyro

    from optbench import cli

    pages = "\n".join(
        block for page in ("clusters.md", "querying.md") for block in blocks(page, "(?:bash|yaml)")
    )
    text = re.sub(r"\\\n\s*", "", pages)
    text = re.sub(r"\$\{\{[^}]*\}\}|\$SLURM_\w+", "2", text)
    commands = re.findall(r"optbench ((?:run|merge|report) [^#&\n]*)", text)
    assert len(commands) >= 6
    for command in commands:
        tyro.cli(cli.Command, args=command.split(), registry=cli.REGISTRY)
