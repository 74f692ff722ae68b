"""The store: written whole or not at all, newest counts, what is torn or foreign is named and passed over."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from optbench import environment, optimizers, record, tasks
from optbench.cell import FORMAT, Cell, Status, Trace, cell_id
from optbench.environment import temporary, whole
from optbench.fields import UserError
from optbench.protocol import Counts
from optbench.store import CONTINUED, Kept, Store
from optbench.tasks.quadratic import Quadratic

FACTS = {"device_kind": "cpu", "mode": "vmap"}


def cell(seed=0, task="quadratic_10", optimizer="adam") -> Cell:
    return Cell(tasks.parse(task), optimizers.parse(optimizer), seed=seed, steps=20)


def trace(of: Cell, status=Status.DONE, last=0.5) -> Trace:
    losses = np.linspace(1, last, of.steps, dtype=np.float32)
    steps = np.array([0, 10, of.steps], np.int32)
    if not status.final:
        return Trace(of, status, "because")
    return Trace(of, status, "", losses, steps, {"loss": losses[[0, 10, -1]]}, Counts(20, 0, 0))


@pytest.fixture
def here(tmp_path) -> Store:
    made = Store(tmp_path / "results")
    made.prepare()
    return made


def keys(*cells: Cell, mode="vmap") -> set:
    return {(c.id(), "cpu", mode, 0) for c in cells}


def test_what_is_written_is_read_back(here):
    pair = [cell(0), cell(1)]
    here.write([trace(c, last=0.25) for c in pair], FACTS)
    frame = here.frame()
    assert list(frame["cell"]) == [c.id() for c in pair]
    np.testing.assert_array_equal(frame["losses"][0], trace(pair[0], last=0.25).losses)
    assert frame["losses"][0].dtype == np.float32
    assert list(frame["evaluation_steps"][1]) == [0, 10, 20]
    assert set(frame["gradient_equivalents"]) == {20}
    assert set(here.finished()) == keys(*pair)
    assert here.passed_over == {}


def test_an_empty_or_missing_store_is_empty(tmp_path):
    nothing = Store(tmp_path / "nothing")
    assert set(nothing.finished()) == set()
    assert nothing.frame().empty
    assert not (tmp_path / "nothing").exists()


def test_the_newest_row_counts(here, monkeypatch):
    clock = iter(range(1_700_000_000, 1_700_000_100))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    for last in (0.5, 0.125, 0.25):
        here.write([trace(cell(), last=last)], FACTS)
    frame = here.frame()
    assert len(frame) == 1
    assert frame["losses"][0][-1] == 0.25
    here.write([trace(cell())], FACTS | {"mode": "map"})
    assert len(here.frame()) == 2, "the same cell in another mode is another result"


@pytest.mark.parametrize("status", Status)
def test_what_failed_is_tried_again_and_what_ended_is_not(here, status):
    wanted = keys(cell()) if status.final else set()
    here.write([trace(cell(), status)], FACTS)
    assert set(here.finished()) == wanted
    assert list(here.frame()["status"]) == [status]
    here.write([trace(cell())], FACTS)
    assert set(here.finished()) == keys(cell())
    # A failed --again is what the frame shows, so it is tried again too.
    here.write([trace(cell(), status)], FACTS)
    assert set(here.finished()) == wanted


def test_files_that_are_not_results_are_named_and_passed_over(here, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    good = here.write([trace(cell())], FACTS)
    (here.runs / "torn.parquet").write_bytes(good.read_bytes()[:-300])
    (here.runs / "empty.parquet").write_bytes(b"")
    (here.runs / "text.parquet").write_text("not parquet at all")
    (here.runs / "folder.parquet").mkdir()
    (here.runs / "dangling.parquet").symlink_to(here.runs / "gone")
    pq.write_table(pa.table({"a": [1, 2]}), here.runs / "foreign.parquet")
    monkeypatch.setattr(record, "FORMAT", FORMAT + 1)
    here.write([trace(cell(1))], FACTS).rename(here.runs / "newer.parquet")
    monkeypatch.undo()
    (here.runs / ".half.parquet.123.tmp").write_bytes(b"PAR1")
    (here.runs / "notes.txt").write_text("mine")

    assert set(here.finished()) == keys(cell())
    assert len(here.frame()) == 1
    assert set(here.passed_over) == {
        f"{name}.parquet" for name in ("torn", "empty", "text", "folder", "dangling", "foreign", "newer")
    }
    assert here.passed_over["foreign.parquet"] == "not a result of optbench"
    assert f"record format {FORMAT + 1}" in here.passed_over["newer.parquet"]
    assert all(here.passed_over.values())


def test_a_write_that_fails_leaves_nothing(here, monkeypatch):
    def half(path, data):
        with path.open("wb") as file:
            file.write(data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(UserError, match="No space"):
        here.write([trace(cell())], FACTS)
    assert list(here.runs.iterdir()) == []


def test_a_rename_is_the_last_thing_that_happens(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ZeroDivisionError), whole(path) as temporary:
        temporary.write_text(f"half {1 // 0}" if temporary.write_text("half") else "")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_temporary_files_of_killed_writers_are_swept(here):
    """Also on a folder that several machines share: theirs stay while anybody may still write them."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    old, new = time.time() - 2 * environment.ABANDONED, time.time()
    partial = here.folder / "partial"
    partial.mkdir()
    mine, host = temporary(here.runs / "mine.parquet").name, environment.machine()
    files = {
        here.runs / f".a.parquet.{host}-{ended.pid}.tmp": (new, False),
        partial / f".b-0.npz.{host}-{ended.pid}.tmp": (new, False),
        here.runs / mine: (new, True),
        here.runs / f".c.parquet.0123abcd-{ended.pid}.tmp": (new, True),
        here.runs / ".d.parquet.0123abcd-1.tmp": (old, False),
        here.runs / f".as-before.parquet.{ended.pid}.tmp": (old, False),
        here.runs / ".notes": (old, True),
        here.runs / "notes.tmp": (old, True),
        partial / "e-0-1234.npz": (old, True),
        partial / "f-0-1234.npz": (new - 2 * CONTINUED, False),
    }
    for path, (modified, _) in files.items():
        path.touch()
        os.utime(path, (modified, modified))
    here.prepare()
    assert {path: path.exists() for path in files} == {path: stays for path, (_, stays) in files.items()}


def test_all_carries_of_a_program_end_with_it(here):
    names = ["ab12-0-c0de", "ab12-1-c0de", "ab12-0-01d0", "ab1-0-c0de"]
    for name in names:
        here.keep(name).save({"a": np.arange(3)})
    here.forget("ab12")
    assert [path.stem for path in here.partial.iterdir()] == ["ab1-0-c0de"]


def test_two_writers_at_the_same_moment_do_not_meet(here, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    first = here.write([trace(cell(0))], FACTS)
    monkeypatch.setattr(os, "getpid", lambda: 99)
    second = here.write([trace(cell(0))], FACTS)
    assert first != second
    assert len(here.files()) == 2


def test_a_full_disk_has_its_message_and_leaves_no_probe(tmp_path, monkeypatch):
    def full(path, data):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    folder = Store(tmp_path / "results")
    with pytest.raises(UserError, match="No space left on device"):
        folder.prepare()
    assert list(folder.runs.iterdir()) == []


def test_a_kept_carry_comes_back_bit_for_bit(here):
    kept = here.keep("abc")
    assert kept.load() is None
    arrays = {
        "carry/0000": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32),
        "carry/0001": np.array([np.nan, -0.0, np.inf, 5e-324]),
        "scalars": np.array([7, 2**31 - 1], np.int32),
        "counts": np.zeros((0, 3), np.int64),
    }
    kept.save(arrays)
    back = here.keep("abc").load()
    assert back is not None
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        assert back[name].tobytes() == array.tobytes()
    kept.clear()
    kept.clear()
    assert kept.load() is None
    assert list((here.folder / "partial").iterdir()) == []


@pytest.mark.parametrize("keep", [0, 1, 20, 150, -1])
def test_a_torn_carry_is_no_carry(tmp_path, keep):
    kept = Kept(tmp_path / "carry.npz")
    kept.save({"a": np.arange(100.0), "b": np.arange(3)})
    good = kept.path.read_bytes()
    kept.path.write_bytes(good[:keep])
    assert kept.load() is None
    middle = good.index(np.arange(100.0).tobytes()) + 80
    kept.path.write_bytes(good[:middle] + b"\xff" + good[middle + 1 :])
    assert kept.load() is None


def older(monkeypatch, here, of):
    """A file of record format 2, whose rows do not carry their question."""
    import pyarrow.parquet as pq

    with monkeypatch.context() as patch:
        patch.setattr(record, "FORMAT", 2)
        written = here.write([trace(of)], FACTS)
    pq.write_table(
        pq.read_table(written).drop_columns(["question", "code"]), here.runs / f"old-{of.id()}.parquet"
    )
    written.unlink()


def test_rows_of_format_2_are_shown_but_do_not_count_or_mix(here, monkeypatch):
    older(monkeypatch, here, cell())
    older(monkeypatch, here, cell(optimizer="kron"))
    here.write([trace(cell(seed=1))], FACTS)
    assert set(here.finished()) == keys(cell(seed=1))
    found = here.frame()
    assert here.older == 2
    assert sorted(zip(found["optimizer"], found["seed"], strict=True)) == [("adam", 1), ("kron", 0)]
    assert record.Question.read(found["question"].iloc[0]).targets == cell().task.targets()


def test_where_a_lane_stops_is_part_of_the_id(monkeypatch):
    before = cell().id()
    cell_id.cache_clear()
    monkeypatch.setattr(Quadratic, "ceiling", 1e3)
    assert cell().id() != before
    cell_id.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr(Quadratic, "targets", lambda self: ())
    assert cell().id() != before
    cell_id.cache_clear()
