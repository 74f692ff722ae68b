"""Shards, merged folders and compaction: every cell is found, with the bits that one run gives it."""

import base64
import contextlib
import functools
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import optbench
from optbench import cli, environment, merge, resultfile
from optbench import store as stores
from optbench.execute import session as sessions
from optbench.execute.job import Event
from optbench.execute.order import Order
from optbench.execute.request import Request
from optbench.execute.session import stages
from optbench.fields import UserError
from optbench.plan import programs
from optbench.store import Store
from optbench.suites.quickstart import TOYS
from tests.grown import grow, rows

GRID = Request(task=("rosenbrock_2", "quadratic_10"), opt=("adam", "sgd"), seeds=2, steps=20)
FEW = replace(GRID, task=("rosenbrock_2",), opt=("adam",), lr=("0.1",))
STAGED = replace(GRID, tuning="quasi", trials=2)
SHARDS = 3


class Stub:
    """An executor that answers at once, with losses that follow from a cell's id; the `dies`-th program is the last."""

    ran: list[str]
    dies = 10**6

    def __class_getitem__(cls, kind):
        return lambda *how: cls()

    def end(self):
        """Nothing stays."""

    def run(self, jobs):
        for job in jobs:
            if len(self.ran) >= Stub.dies:
                raise KeyboardInterrupt
            self.ran.extend(cell.id() for cell in job.cells)
            yield Event("done", 0, job, {"rows": base64.b64encode(rows(job)).decode()})


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(sessions, "Pool", Stub)
    monkeypatch.setattr(Stub, "ran", [], raising=False)
    monkeypatch.setattr(Stub, "dies", 10**6)
    return Stub


def run(request: Request, folder: Path):
    """The frame of a run that is repeated until it is not interrupted."""
    asked = None
    for asked in stages(Order.of(replace(request, results=str(folder)))):
        list(asked.run())
    return asked.frame()


def table(frame) -> dict:
    """What must be equal to the bit."""
    stage = frame["stage"] if "stage" in frame else [""] * len(frame)
    return {
        (cell, each): (losses.tobytes(), values.tobytes(), status)
        for cell, each, losses, values, status in zip(
            frame["cell"], stage, frame["losses"], frame["evaluation.loss"], frame["status"], strict=True
        )
    }


@pytest.mark.parametrize(
    ("request_", "shared"),
    [(GRID, True), pytest.param(STAGED, False, marks=pytest.mark.slow)],
    ids=["one folder", "two stages"],
)
def test_shards_in_any_order_killed_and_repeated_equal_one_run(tmp_path, stub, request_, shared):
    whole = table(run(request_, tmp_path / "whole"))
    stub.ran.clear()
    folders = [tmp_path / ("shared" if shared else f"shard{i}") for i in range(SHARDS)]
    for i in (2, 0, 1):
        shard = replace(request_, shard=f"{i + 1}/{SHARDS}")
        stub.dies = len(stub.ran) + 3
        try:
            run(shard, folders[i])
        except KeyboardInterrupt:
            stub.dies = 10**6
        run(shard, folders[i])
        stub.dies = 10**6
    assert len(stub.ran) == len(set(stub.ran)), "a cell ran twice"
    assert set(stub.ran) == {cell for cell, _ in whole}
    merged = merge.merge([str(folder) for folder in folders], str(tmp_path / "merged"))
    assert not merged.conflicts
    assert not merged.skipped
    stub.ran.clear()
    assert table(run(request_, tmp_path / "merged")) == whole
    assert not stub.ran, "something was not in any shard"


def test_shards_are_even_and_the_same_everywhere():
    request = Request(suite="quickstart", vet=False)
    order = Order.of(replace(request, jobs=2))
    shards = [order.shard(i, 3) for i in range(3)]
    assert sorted(cell.id() for shard in shards for cell in shard) == sorted(
        cell.id() for cell in order.cells
    )
    assert shards == [Order.of(replace(request, jobs=7, shard=f"{i}/3")).cells for i in (1, 2, 3)]
    costs = [sum(program.cost for program in programs(shard)) for shard in shards]
    longest = max(program.cost for program in programs(order.cells, jobs=3))
    assert max(costs) - min(costs) <= longest


def test_there_may_be_more_shards_than_fit_into_memory():
    order = Order.of(replace(GRID, vet=False))
    assert [order.shard(i, 10**11) for i in range(4)] == [order.shard(i, 4) for i in range(4)]
    assert order.shard(10**10, 10**11) == ()


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/", "-1/2", "a/b", "1/2/3", ""])
def test_what_is_no_shard_is_refused(shard):
    with pytest.raises(UserError, match=r"--shard must be i/n with i from 1 to n"):
        Order.of(replace(GRID, shard=shard))


def test_a_shard_beyond_the_programs_has_nothing_to_do(tmp_path, capsys, monkeypatch):
    words = "run --task rosenbrock_2 --opt adam --lr 0.1 --seeds 1 --shard 2/2 --results"
    monkeypatch.setattr("sys.argv", ["optbench", *words.split(), str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert "Shard 2/2 has nothing to do" in capsys.readouterr().out


# --- merging -------------------------------------------------------------------------------------------------


def merged(capsys, monkeypatch, *words: str) -> tuple[int, dict, str]:
    monkeypatch.setattr("sys.argv", ["optbench", "merge", *map(str, words), "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    return int(str(ended.value.code)), json.loads(out), err


def test_other_bits_of_a_cell_are_told(tmp_path, stub, capsys, monkeypatch):
    for name in "ab":
        run(FEW, tmp_path / name)
    [path] = Store(tmp_path / "b").files()
    moved = pq.read_table(path)
    losses = [np.asarray(each, np.float32) for each in moved["losses"].to_pylist()]
    losses[1][7] = np.nextafter(losses[1][7], np.float32(1))
    place = moved.column_names.index("losses")
    moved = moved.set_column(place, moved.field("losses"), pa.array(losses, moved["losses"].type))
    written = io.BytesIO()
    pq.write_table(moved, written)
    path.unlink()
    Store(tmp_path / "b").put(written.getvalue(), "other")
    (tmp_path / "b" / "runs" / "torn.parquet").write_bytes(b"PAR1")
    code, told, err = merged(capsys, monkeypatch, tmp_path / "a", tmp_path / "b", "--into", tmp_path / "c")
    assert code == 1
    [conflict] = told["conflicts"]
    assert conflict["cell"] == moved["cell"][1].as_py()
    assert conflict["folders"] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert conflict["differing"] == []
    assert "other bits: rosenbrock_2 / adam, seed 1" in err
    assert "nothing recorded explains it" in err
    assert "1 cell with other bits; the newest row of each counts." in err
    assert [Path(name).name for name in told["skipped"]] == ["torn.parquet"]
    assert (told["copied"], told["present"]) == (2, 0)
    again = merged(capsys, monkeypatch, tmp_path / "a", "--into", tmp_path / "c")
    assert (again[0], again[1]["copied"], again[1]["present"]) == (0, 0, 1)


def test_what_is_no_results_folder_is_refused_before_anything_is_written(tmp_path, stub):
    run(FEW, tmp_path / "a")
    with pytest.raises(UserError, match="not a results folder"):
        merge.merge([str(tmp_path / "a"), str(tmp_path)], str(tmp_path / "c"))
    assert not (tmp_path / "c").exists()


# --- compaction ----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The end of a process, of which nothing is cleaned up."""


class Mortal:
    """Calls of some functions, the n-th of which is the end, before or after it does what it does."""

    def __init__(self, patch, dies: int, after: bool):
        self.count, self.dies, self.after = 0, dies, after
        for owner, name in ((pq, "write_table"), (environment, "sync"), (Path, "unlink"), (Path, "replace")):
            patch.setattr(owner, name, self.wrapped(getattr(owner, name)))

    def wrapped(self, real):
        @functools.wraps(real)
        def call(*args, **rest):
            self.count += 1
            if self.count == self.dies and not self.after:
                raise Killed
            result = real(*args, **rest)
            if self.count == self.dies:
                raise Killed
            return result

        return call


@pytest.fixture
def fragments(tmp_path, stub) -> Path:
    """A store with a file for each seed."""
    for seeds in (1, 2, 3):
        run(replace(FEW, seeds=seeds), tmp_path / "fragments")
    return tmp_path / "fragments"


def test_a_compacted_folder_has_the_same_rows_in_fewer_files(fragments, capsys, monkeypatch):
    store = Store(fragments)
    before, every = table(store.frame()), len(store.frame(every=True))
    assert len(store.files()) == 3
    code, told, _ = merged(capsys, monkeypatch, fragments, "--into", fragments)
    assert (code, told["compacted"]) == (0, 3)
    assert len(store.files()) == 1
    assert table(Store(fragments).frame()) == before
    assert len(Store(fragments).frame(every=True)) == every
    assert merge.compact(Store(fragments)) == 0, "large files are written again"


def test_losses_can_be_rounded_for_a_smaller_folder(fragments, capsys, monkeypatch):
    """Up, by 2^-7 of each at most; all else, and what is not finite, is as it was; another time changes nothing."""
    before = Store(fragments).frame()
    code, told, _ = merged(capsys, monkeypatch, fragments, "--into", fragments, "--bits", "8")
    assert (code, told["compacted"]) == (0, 3)
    after = Store(fragments).frame()
    assert (after["loss_bits"] == 8).all()
    exact = before.drop(columns="losses")
    pd.testing.assert_frame_equal(after[exact.columns], exact)
    for exact, kept in zip(before["losses"], after["losses"], strict=True):
        np.testing.assert_allclose(kept, exact, rtol=2**-7)
        assert (kept >= exact).all()
        assert kept[-1] == exact[-1]
        kept = np.asarray(kept[:-1])
        assert kept.dtype == np.asarray(exact).dtype
        assert set(np.ldexp(np.frexp(kept[np.isfinite(kept)])[0], 8) % 1) <= {0.0}
    assert merge.compact(Store(fragments), 8) == 0
    run(replace(FEW, seeds=4), fragments)
    assert merge.compact(Store(fragments), 10) == 2
    assert set(Store(fragments).frame()["loss_bits"]) == {8, 10}, "what was left out is not there again"


def test_lanes_that_only_chose_keep_half_of_the_bits():
    """All are rounded up, so that none reaches a target earlier, and the last loss of a lane stays."""
    losses = pa.array([[1 / 3, 0.26, np.inf, 0.26]] * 3 + [None])
    table = pa.table({"seed": [1, 1000, 2000, 1001], "losses": losses, "loss_bits": [None, None, 6, 2]})
    kept = resultfile.rounded(table, 8)
    assert kept["loss_bits"].to_pylist() == [8, 4, 6, 2]
    assert kept["losses"].to_pylist() == [
        [171 / 512, 134 / 512, np.inf, 0.26],
        [11 / 32, 9 / 32, np.inf, 0.26],
        [43 / 128, 34 / 128, np.inf, 0.26],
        None,
    ]


def test_rounded_losses_are_no_conflict(fragments, tmp_path, capsys, monkeypatch):
    shutil.copytree(fragments, tmp_path / "exact")
    merge.compact(Store(fragments), 8)
    code, told, _ = merged(capsys, monkeypatch, fragments, tmp_path / "exact", "--into", tmp_path / "both")
    assert (code, told["conflicts"]) == (0, [])
    with pytest.raises(UserError, match="--bits"):
        merge.merge([str(fragments)], str(tmp_path / "both"), 8)


def test_whoever_is_killed_while_compacting_loses_no_row(fragments, tmp_path, monkeypatch):
    """Before and after every write, sync, rename and deletion; and a reader that began before goes on."""
    before = table(Store(fragments).frame())
    for dies, after in ((dies, after) for dies in itertools.count(1) for after in (False, True)):
        here = tmp_path / f"killed-{dies}-{after}"
        shutil.copytree(fragments, here)
        reader = Store(here)
        reader.index()
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            mortal = Mortal(patch, dies, after)
            merge.compact(Store(here))
        for store in (reader, Store(here)):
            assert table(store.frame()) == before, (dies, after)
            assert not store.passed_over
        assert len(Store(here).frame(every=True)) == len(before)
        merge.compact(Store(here))
        assert table(Store(here).frame()) == before, (dies, after)
        if mortal.count < dies:
            break
    assert dies == 12, "two lists written both ways to compare, a write, two syncs, a rename, three deletions"


# --- stores that grow ----------------------------------------------------------------------------------------


@pytest.fixture
def grown(tmp_path, monkeypatch) -> Store:
    monkeypatch.setattr(stores, "INDEX_FROM", 4)
    return grow(tmp_path, 300, GRID)


def test_a_large_store_opens_only_what_it_needs(grown, tmp_path, monkeypatch):
    own = len(Order.of(GRID).cells)
    assert len(grown.files()) > 2 * len(Order.of(GRID).planned)
    asked = sessions.Session(Order.of(replace(GRID, results=str(tmp_path))))
    assert asked.missing == 0
    assert (tmp_path / "index.parquet").exists()
    opened = []
    real = Store.open
    monkeypatch.setattr(
        Store, "open", lambda self, path, *rest: opened.append(path) or real(self, path, *rest)
    )
    again = sessions.Session(Order.of(replace(GRID, results=str(tmp_path))))
    assert again.missing == 0
    assert opened == []
    assert len(again.frame()) == own
    assert len(opened) == len(Order.of(GRID).planned)


def spent(*words: str) -> tuple[float, int]:
    """Processor seconds and the most resident bytes of a Python process that succeeds."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss


@pytest.mark.slow
def test_a_store_of_100_000_cells_costs_little(tmp_path):
    """Measured in imports of pandas: 5 s for the run and 10 s for the report, where one takes 0.7 s."""
    which = {"suite": "classic", "opt": ("kron", "adam", "novograd"), "results": str(tmp_path)}
    request = Request(**which, task=(*TOYS, "mlp", "resnet_quick", "transformer_8"))
    assert len(grow(tmp_path, 100_000, request, each=20).finished()) == 100_000
    words = ["--suite", "classic", "--task", ",".join(request.task), "--opt", ",".join(request.opt)]
    words += ["--results", str(tmp_path)]
    unit = min(spent("-c", "import pandas")[0] for _ in range(3))
    run, _ = spent("-m", "optbench", "run", *words)
    report, memory = spent("-m", "optbench", "report", *words, "--out", str(tmp_path / "reports"))
    assert run < 7 * unit
    assert report < 14 * unit
    assert memory < 2e9


@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: b"", lambda raw: flipped(raw)])
def test_a_damaged_index_is_made_again(grown, tmp_path, damage):
    finished = grown.finished()
    index = tmp_path / "index.parquet"
    index.write_bytes(damage(index.read_bytes()))
    assert Store(tmp_path).finished() == finished


def flipped(raw: bytes) -> bytes:
    middle = len(raw) // 3
    return raw[:middle] + bytes([raw[middle] ^ 0xFF]) + raw[middle + 1 :]


def test_a_shard_without_work_is_an_empty_result(tmp_path):
    """Three shards of a run in two stages that has two pieces."""
    given = {"task": "rosenbrock_2", "steps": 5, "trials": 2, "seeds": 2, "jobs": 1, "results": tmp_path}
    found = optbench.run("adam,sgd", shard="3/3", **given)
    assert found.frame.empty
    assert found.failures.empty
    assert str(found) == "no cells"
