"""Result files: every byte flipped, every column spoilt, and what is no result at all; carries and other caches."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from optbench.environment import remember, remembered
from optbench.report.compare import compare
from optbench.report.content import Content
from optbench.report.selection import Selection
from optbench.stats.summary import as_text, summarise
from optbench.stats.verdict import verdict
from optbench.store import Kept, Store
from tests.reliability import Outcomes, drawn
from tests.test_report import grid, index, stored

CELLS = 4
"""In each of two files, of which one is damaged."""


def results(folder: Path) -> tuple[Store, Path]:
    """Two small files of results, and the one that will be damaged."""
    pairs = [grid(opt=name, seeds=2, trials=2) for name in ("adam", "sgd")]
    facts = {
        "traceback": "",
        "metrics": "",
        "roomy": False,
        "width": 48,
        "state_bytes": 80,
        "parameter_bytes": 40,
    }
    store = stored(folder / "results", *pairs, **facts)
    return store, store.files()[0]


def read(store: Store) -> tuple[pd.DataFrame, dict[str, str], int]:
    """What a command sees: the rows, what was passed over, and how many cells need not be computed."""
    fresh, again = Store(store.folder), Store(store.folder)
    frame, finished = fresh.frame(), len(again.finished())
    assert fresh.passed_over == again.passed_over, "`run` and `report` differ in what they read"
    return frame, fresh.passed_over, finished


def judged(store: Store, path: Path, whole: pd.DataFrame) -> str:
    """The outcome for a store, one file of which is damaged."""
    try:
        frame, passed_over, finished = read(store)
    except Exception:
        return "wrong"
    if passed_over:
        rest = len(whole) - CELLS
        named = set(passed_over) == {path.name} and "\n" not in passed_over[path.name]
        return "refused" if named and (len(frame), finished) == (rest, rest) else "wrong"
    return "survived" if frame.equals(whole) else "wrong"


def flipped_bytes(sample: int | None = None) -> Outcomes:
    """Every byte of a small file, one bit of it flipped."""
    with tempfile.TemporaryDirectory() as here:
        store, path = results(Path(here))
        store.files()[1].unlink()
        whole, *_ = read(store)
        good = path.read_bytes()
        for place in drawn(range(len(good)), sample):
            bad = bytearray(good)
            bad[place] ^= 1 << place % 8
            path.write_bytes(bad)
            yield judged(store, path, whole), f"byte {place}"


def spoilt(table: pa.Table, name: str) -> Iterator[tuple[str, pa.Table]]:
    """A table with one column of another type, missing, null or empty."""
    place, rows, kind = table.schema.get_field_index(name), table.num_rows, table.schema.field(name).type
    values = table[name].to_pylist()
    yield "missing", table.drop_columns([name])
    others = {
        "numbers": 7,
        "text": "x",
        "flags": True,
        "bytes": b"\xff",
        "lists of text": ["x"],
        "empty lists": [],
    }
    for other, value in others.items():
        column = pa.array([value] * rows)
        if column.type != kind:
            yield other, table.set_column(place, name, column)
    yield "untyped nulls", table.set_column(place, name, pa.nulls(rows))
    yield "nulls", table.set_column(place, name, pa.nulls(rows, kind))
    yield "one null", table.set_column(place, name, pa.array([None, *values[1:]], kind))


def spoilt_columns(sample: int | None = None) -> Outcomes:
    """Every column, spoilt in each way; what is taken goes through the table, the report and a comparison."""
    with tempfile.TemporaryDirectory() as here:
        store, path = results(Path(here))
        good = pq.read_table(path)
        other, _ = results(Path(here) / "other")
        path.unlink()
        path = path.with_name("spoilt.parquet")
        cases = [(name, *way) for name in good.column_names for way in spoilt(good, name)]
        for name, way, table in drawn(cases, sample):
            pq.write_table(table, path)
            yield used(store, path, other, way in ("missing", "one null")), f"{name}: {way}"


def used(store: Store, path: Path, other: Store, report: bool) -> str:
    """The outcome of all that commands do with a store; the report takes most of the time."""
    try:
        frame, passed_over, finished = read(store)
        if passed_over:
            named = set(passed_over) == {path.name}
            return "refused" if named and (len(frame), finished) == (CELLS, CELLS) else "wrong"
        assert as_text(summarise(frame))
        assert verdict(frame)
        if not report:
            return "survived" if (len(frame), finished) == (2 * CELLS, 2 * CELLS) else "wrong"
        selection = Selection(task=("quadratic_10",), results=str(store.folder))
        assert index(Content.of(selection, store))
        assert compare(selection.results, (selection.results, str(other.folder)), selection).sections()
    except Exception:
        return "wrong"
    return "survived" if (len(frame), finished) == (2 * CELLS, 2 * CELLS) else "wrong"


def foreign(path: Path, good: bytes) -> Iterator[tuple[str, str]]:
    """Things that lie where results lie; each is made, named, and removed."""
    for at in (0, 1, 4, 100, len(good) // 2, len(good) - 8, len(good) - 1):
        path.write_bytes(good[:at])
        yield "file", f"cut after {at} bytes"
    path.write_bytes(bytes(len(good)))
    yield "file", "zeros"
    tables = {
        "foreign": pa.table({"a": [1, 2]}),
        "no columns": pa.table({}),
        "a bomb": pa.table({"cell": pa.array(np.zeros(50_000_000, np.int8))}),
        "a future format": pq.read_table(pa.BufferReader(good)).set_column(
            0, "format", pa.array([99] * CELLS)
        ),
        "names of one column twice": pa.table([pa.array(["a"]), pa.array(["b"])], ["cell", "cell"]),
    }
    for name, table in tables.items():
        pq.write_table(table, path)
        yield "file", name
    with path.open("wb") as file:
        file.truncate(1 << 40)
    yield "file", "a terabyte of nothing"
    path.unlink()
    path.symlink_to(path)
    yield "file", "a link to itself"
    path.unlink()
    path.mkdir()
    yield "folder", "a folder"
    path.rmdir()
    os.mkfifo(path)
    yield "file", "a pipe that nobody writes to"
    path.unlink()
    path.symlink_to("/dev/zero")
    yield "file", "a device"


def foreign_files(sample: int | None = None) -> Outcomes:
    """What is no result: cut short, empty, foreign, of the future, too large, no file."""
    with tempfile.TemporaryDirectory() as here:
        store, path = results(Path(here))
        whole, *_ = read(store)
        good = path.read_bytes()
        path.unlink()
        path = path.with_name("foreign.parquet")
        for _, name in foreign(path, good):
            yield judged(store, path, whole), name


def flipped_carries(sample: int | None = None) -> Outcomes:
    """Every byte of a checkpoint flipped: it is not used, or it is what was saved."""
    arrays = {"carry/0000": np.arange(40, dtype=np.float32), "scalars": np.array([7.0, 1.0])}
    with tempfile.TemporaryDirectory() as here:
        kept = Kept(Path(here) / "carry.npz")
        kept.save(arrays)
        good = kept.path.read_bytes()
        for place in drawn(range(len(good)), sample):
            for bit in (1, 8, 128):
                bad = bytearray(good)
                bad[place] ^= bit
                kept.path.write_bytes(bad)
                back = kept.load()
                outcome = "refused"
                if back is not None:
                    bits = {name: each.tobytes() for name, each in back.items()}
                    good_bits = {name: each.tobytes() for name, each in arrays.items()}
                    outcome = "survived" if bits == good_bits else "wrong"
                yield outcome, f"byte {place}, bit {bit}"


def flipped_caches(sample: int | None = None) -> Outcomes:
    """Every byte of what is kept between runs flipped: a text with its digest, and a compiled program."""
    with tempfile.TemporaryDirectory() as here:
        path = Path(here) / "text"
        remember(path, good := json.dumps({"findings": [["descends", True, ""]], "flops": 7.5}))
        for place in damaged(path, sample):
            kept = remembered(path)
            outcome = "refused" if kept is None else "survived" if kept == good else "wrong"
            yield outcome, f"text: byte {place}"
        with compiled_in(Path(here) / "jax") as value:
            good = value()
            [path] = [each for each in (Path(here) / "jax").iterdir() if each.name.endswith("-cache")]
            for place in damaged(path, sample):
                yield "survived" if value() == good else "wrong", f"program: byte {place}"


def damaged(path: Path, sample: int | None) -> Iterator[int]:
    """The places of a file, while a bit of each is flipped."""
    good = path.read_bytes()
    for place in drawn(range(len(good)), sample):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        yield place


@contextlib.contextmanager
def compiled_in(folder: Path) -> Iterator[Callable[[], bytes]]:
    """What a program computes, compiled anew or read from a cache as workers have it."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    names = (
        "compilation_cache_dir",
        "persistent_cache_min_compile_time_secs",
        "persistent_cache_min_entry_size_bytes",
    )
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}

    def value() -> bytes:
        jax.clear_caches()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an entry that cannot be read
            return np.asarray(jax.jit(lambda x: jax.numpy.sin(x) @ x)(np.eye(3, dtype=np.float32))).tobytes()

    for name, setting in zip(before, (str(folder), 0, -1), strict=True):
        jax.config.update(name, setting)
    compilation_cache.reset_cache()
    try:
        yield value
    finally:
        for name, setting in before.items():
            jax.config.update(name, setting)
        compilation_cache.reset_cache()
