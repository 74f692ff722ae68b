"""results/: one immutable Parquet file for each finished program, written completely or not at all.

A row is a cell. Nothing is ever changed or deleted; where a cell was computed again, the newest row counts.
"""

from __future__ import annotations

import atexit
import errno
import io
import json
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from optbench import catalogue
from optbench.cell import FINAL, FORMAT, Cell, Schedule, Trace
from optbench.environment import whole
from optbench.fields import UserError
from optbench.record import check_columns, check_rows, question_text, record

if TYPE_CHECKING:
    import pandas as pd

KEY = ("cell", "device_kind", "mode")
"""The key of a stored row: the same cell elsewhere, or in another mode, is another result."""
READABLE = {2, FORMAT}
"""Record formats that reports show; only rows of the newest count as stored."""


LARGEST = 4 << 30
"""Bytes of a result file that is read at all."""
EXPANDS = 10_000
"""Values of a column for each byte of a file above which it is no result: a few bytes can hold a billion zeros."""


class Stored(NamedTuple):
    """The code that computed a finished row, and the extra metrics that it has."""

    code: str
    metrics: frozenset[str]


class Store:
    """A results folder."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.runs = self.folder / "runs"
        self.passed_over: dict[str, str] = {}
        """Files that could not be read, and why."""
        self.older = 0
        """Rows of an older record format among those that were read."""
        self.outdated = 0
        """Rows of older code that the last frame left out."""

    def prepare(self) -> None:
        """Make the folder; UserError if it cannot be written to."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"results folder {str(self.folder)!r} is a file. Use another with --results.")
        probe = self.runs / f".probe-{os.getpid()}"
        try:
            self.runs.mkdir(parents=True, exist_ok=True)
            try:
                probe.write_bytes(b"optbench")
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise self.unwritable(error) from error

    def unwritable(self, error: OSError) -> UserError:
        full = "Stored results are kept: make room and run again, or use"
        advice = full if error.errno == errno.ENOSPC else "Use"
        return UserError(
            f"results folder {str(self.folder)!r} cannot be written: {error.strerror}. "
            f"{advice} another with --results."
        )

    def write(self, traces: Sequence[Trace], facts: Mapping[str, Any], unnamed: bool = False) -> Path:
        return self.put(encoded(traces, facts), stem(traces[0].cell), unnamed)

    def put(self, rows: bytes, name: str, unnamed: bool = False) -> Path:
        """One new file, whose name has a checksum of it; an `unnamed` one is deleted when this process ends."""
        folder = fleeting(self.runs) if unnamed else self.runs
        path = folder / f"{name}-{time.time_ns():x}-{os.getpid():x}.{zlib.crc32(rows):08x}.parquet"
        try:
            with whole(path) as temporary:
                temporary.write_bytes(rows)
        except OSError as error:  # most often a full disk, which no later program would survive either
            raise self.unwritable(error) from error
        return path

    def files(self) -> list[Path]:
        """All result files, oldest first."""
        folders = [self.runs, *([FLEETING[self.runs]] if self.runs in FLEETING else [])]
        files = [path for folder in folders for path in folder.glob("[!.]*.parquet")]
        return sorted(files, key=lambda path: (path.lstat().st_mtime_ns, path.name))

    def tables(self, columns: Sequence[str] | None = None) -> Iterable[Any]:
        """The readable files as Arrow tables; the others are named in `passed_over`."""
        for path in self.files():
            try:
                table = checked(path, columns)
                if set(table["format"].to_pylist()) != {FORMAT}:
                    self.older += table.num_rows
                    table = with_questions(table)
            except Exception as error:  # a file may hold anything
                self.passed_over[path.name] = (str(error).splitlines() or [type(error).__name__])[0][:120]
                continue
            yield table

    def read(self, path: Path | io.BytesIO) -> pd.DataFrame:
        import pyarrow.parquet as pq

        return pq.read_table(path, use_threads=False).to_pandas()

    def finished(self) -> dict[tuple[str, str, str], Stored]:
        """The keys of the cells that need not be computed again, with code and metrics of their newest row."""
        newest: dict[tuple[str, str, str], tuple[float, str, Stored]] = {}
        self.older = 0
        for table in self.tables([*KEY, "created", "status", "format", "code", "metrics"]):
            for row in table.to_pylist():
                if row["format"] == FORMAT:
                    key = (row["cell"], row["device_kind"], row["mode"])
                    stored = Stored(row.get("code") or "", frozenset((row.get("metrics") or "").split()))
                    latest = (row["created"], row["status"], stored)
                    newest[key] = max(newest.get(key, latest), latest)
        return {key: stored for key, (_, status, stored) in newest.items() if status in FINAL}

    def frame(self, every: bool = False, older: bool = False) -> pd.DataFrame:
        """One row for each cell, the newest of each key, or `every` one that was ever stored.

        Rows of older code, of a task and optimizer that were also run by newer code, are counted in `outdated` and left
        out; with `older` they are shown under a name of their own, such as `kron (code 1a2b3c4d)`.
        """
        import pandas as pd

        self.older = 0
        frames = [table.to_pandas() for table in self.tables()]
        if not frames:
            return pd.DataFrame()
        # Columns that are empty in one file would change the dtype for all.
        merged = pd.concat([frame.dropna(axis="columns", how="all") for frame in frames], ignore_index=True)
        merged["code"] = "of format 2" if "code" not in merged else merged["code"].fillna("of format 2")
        ordered = merged.sort_values("created", kind="stable")
        if every:
            return ordered.reset_index(drop=True)
        kept = ordered.drop_duplicates(list(KEY), keep="last")
        newest = newest_code(kept)
        self.outdated = int((~newest).sum())
        if older:
            named = kept["optimizer"] + " (code " + kept["code"].astype(str) + ")"
            kept = kept.assign(optimizer=kept["optimizer"].where(newest, named))
        else:
            kept = kept[newest]
        return kept.reset_index(drop=True)

    def keep(self, name: str) -> Kept:
        return Kept(self.folder / "partial" / f"{name}.npz")


class Kept:
    """The saved carry of one group of lanes, so that an interrupted program goes on."""

    def __init__(self, path: Path):
        self.path = path

    def load(self) -> dict[str, np.ndarray] | None:
        """The saved arrays; None if the file is damaged or missing."""
        try:
            with self.path.open("rb") as file, np.load(file) as arrays:
                found = dict(arrays)
            # A flipped bit can hide an array, whose checksum then nobody reads.
            return found if int(found.pop("arrays")) == len(found) else None
        except Exception:  # a file may hold anything
            return None

    def save(self, arrays: Mapping[str, np.ndarray]) -> None:
        with whole(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, arrays=len(arrays), **arrays)

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)


class Held(Kept):
    """A carry that outlives the end of its lanes: until all of the program is stored, a crash may need it again."""

    def clear(self) -> None:
        """Not yet: `Kept.clear` deletes it."""


def checked(path: Path, columns: Sequence[str] | None) -> Any:
    """The columns of a result file as an Arrow table; an exception says why it is not one.

    The checksum in its name says that a file is as it was written; then only the columns that are needed are read.
    Another file, such as one that was renamed, is read and checked as a whole.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file() or path.stat().st_size > LARGEST:
        raise ValueError("not a file, or larger than any that is written")
    data = path.read_bytes()
    sealed = re.fullmatch(r"\.[0-9a-f]{8}", seal := Path(path.stem).suffix)
    if sealed and seal != f".{zlib.crc32(data):08x}":
        raise ValueError("damaged: it differs from the checksum in its name")
    file = pq.ParquetFile(pa.BufferReader(data))
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    values = [group.column(i).num_values for group in groups for i in range(group.num_columns)]
    if max(values, default=0) > EXPANDS * len(data):
        raise ValueError(f"{max(values)} values in {len(data)} bytes")
    schema = file.schema_arrow
    types = dict(zip(schema.names, schema.types, strict=True))
    if len(types) < len(schema) or not {*KEY, "format", "status", "created"} <= set(types):
        raise ValueError("not a result of optbench")
    chosen = [name for name in columns if name in types] if columns and sealed else None
    table = file.read(chosen, use_threads=False)
    formats = set(table["format"].to_pylist())
    if not formats <= READABLE:
        raise ValueError(f"unknown record format {', '.join(map(str, formats))}")
    check_columns(types, modern=formats == {FORMAT})
    if chosen is None:
        check_rows(table)
    return table


def with_questions(table: Any) -> Any:
    """A table of record format 2, whose rows have no question, with that of its task as the catalogue has it."""
    import pyarrow as pa

    if "question" in table.column_names or "spec" not in table.column_names:
        return table
    tasks = [json.loads(spec)["task"] for spec in table["spec"].to_pylist()]
    try:
        questions = [question_text(catalogue.task_of(each)) for each in tasks]
    except UserError as error:
        raise ValueError(f"of record format 2, and {error}") from error
    schedules = [Schedule(**json.loads(spec)["schedule"]).label() for spec in table["spec"].to_pylist()]
    place = table.column_names.index("schedule")
    table = table.set_column(place, "schedule", pa.array(schedules))
    return table.append_column("question", pa.array(questions))


def encoded(traces: Sequence[Trace], facts: Mapping[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{**record(trace), **facts, "created": time.time()} for trace in traces]
    columns = {name: [row.get(name) for row in rows] for row in rows for name in row}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


GROUP = ("task", "optimizer", "schedule", "framework", "dtype", "precision", "steps", "device_kind")
"""The columns that are equal in rows of one median, or of the trials of one choice."""


def newest_code(frame: pd.DataFrame) -> pd.Series:
    """Whether each row, oldest first, is of the code that its group was last run with: other code does not mix."""
    names = [name for name in GROUP if name in frame]
    return frame["code"] == frame.groupby(names, dropna=False, sort=False)["code"].transform("last")


FLEETING: dict[Path, Path] = {}
"""For a folder of runs, the one that ends with this process."""


def fleeting(runs: Path) -> Path:
    """A folder beside the runs that lives as long as this process."""
    if runs not in FLEETING:
        FLEETING[runs] = Path(tempfile.mkdtemp(prefix="optbench-"))
        atexit.register(shutil.rmtree, FLEETING[runs], ignore_errors=True)
    return FLEETING[runs]


def stem(cell: Cell) -> str:
    name = re.sub(r"\W+", "-", f"{cell.task.name}-{cell.optimizer.name}")
    return f"{name}-{cell.id()[:8]}"
