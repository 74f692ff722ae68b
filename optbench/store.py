"""results/: one immutable Parquet file for each finished program, written completely or not at all.

A row is a cell. Nothing is ever changed or deleted; where a cell was computed again, the newest row counts.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import io
import math
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from optbench.cell import FINAL, FORMAT, Trace
from optbench.environment import sweep, temporary, whole
from optbench.fields import UserError
from optbench.lazy import np, pa, pc, pd, pq
from optbench.record import IMPORTED
from optbench.resultfile import KEY, checked, encoded, planned_width, stem, with_questions

CONTINUED = 7 * 86400.0
"""Seconds for which the carry of an interrupted program is kept."""


class Stored(NamedTuple):
    """The code that computed a finished row, and the extra metrics that it has."""

    code: str
    metrics: frozenset[str]


class Store:
    """A results folder."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.runs, self.partial = self.folder / "runs", self.folder / "partial"
        self.passed_over: dict[str, str] = {}
        """Files that could not be read, and why."""
        self.older = 0
        """Rows of an older record format among those that were read."""
        self.indexed: tuple[Any, dict[str, Path]] | None = None

    def prepare(self) -> None:
        """Make the folder, without what killed processes left in it; UserError if it cannot be written to."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"results folder {str(self.folder)!r} is a file. Use another with --results.")
        probe = temporary(self.runs / "probe")
        try:
            self.runs.mkdir(parents=True, exist_ok=True)
            try:
                probe.write_bytes(b"optbench")
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise self.unwritable(error) from error
        for folder in (self.runs, self.partial, self.folder / "claims"):
            sweep(folder)
        for carry in self.partial.glob("*.npz"):
            with contextlib.suppress(OSError):
                if time.time() - carry.stat().st_mtime > CONTINUED:
                    carry.unlink()

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
            with whole(path) as unfinished:
                unfinished.write_bytes(rows)
        except OSError as error:  # most often a full disk, which no later program would survive either
            raise self.unwritable(error) from error
        return path

    def files(self) -> list[Path]:
        """All result files, oldest first."""
        return list(self.stamped().values())

    def stamped(self) -> dict[str, Path]:
        """All result files, oldest first, each by what tells it from any other."""
        folders = [self.runs, *([FLEETING[self.runs]] if self.runs in FLEETING else [])]
        found = []
        for path in (path for folder in folders for path in folder.glob("[!.]*.parquet")):
            with contextlib.suppress(OSError):
                stat = path.lstat()
                found.append((stat.st_mtime_ns, path.name, stat.st_size, path))
        return {f"{name} {size} {modified}": path for modified, name, size, path in sorted(found)}

    def index(self) -> tuple[Any, dict[str, Path]]:
        """An Arrow table with the columns of `INDEX` of every readable row, and the files by their stamps.

        A file never changes, so what was read of it is kept in `index.parquet`, which may be deleted at any time.
        """
        files, kept = self.stamped(), self.folder / "index.parquet"
        if self.indexed is not None and self.indexed[1] == files:
            return self.indexed
        schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in INDEX.items()])
        known = schema.empty_table()
        with contextlib.suppress(pa.ArrowException, OSError, ValueError):
            table = pq.read_table(kept, use_threads=False, page_checksum_verification=True)
            known = table if table.schema.equals(schema) else known
        known = rows_of(known, "stamp", files)
        missing = files.keys() - set(known["stamp"].unique().to_pylist())
        opened = {each: self.open(files[each], [*INDEX, "evaluation.x"]) for each in files if each in missing}
        new = {stamp: table for stamp, table in opened.items() if table is not None}
        table = pa.concat_tables([known, indexed(new, schema)])
        if len(new) >= INDEX_FROM:
            with contextlib.suppress(OSError), whole(kept) as unfinished:
                pq.write_table(table, unfinished, compression="zstd", write_page_checksum=True)
        self.indexed = (table, files)
        return self.indexed

    def open(self, path: Path, columns: Sequence[str] | None = None) -> Any:
        """A readable file, or some of its columns as they are, as an Arrow table; another is named in `passed_over`."""
        try:
            table = checked(path, columns)
            modern = columns is not None or set(table["format"].to_pylist()) == {FORMAT}
            return table if modern else with_questions(table)
        except Exception as error:  # a file may hold anything
            if os.path.lexists(path):  # else its rows are in a larger file now
                self.passed_over[path.name] = (str(error).splitlines() or [type(error).__name__])[0][:120]
            return None

    def paces(self) -> dict[tuple[str, str], float]:
        """For each stored task and optimizer, the median of the seconds of a step of a lane."""
        paces: dict[tuple[str, str], list[float]] = {}
        for *key, seconds in listed(self.index()[0], "task", "optimizer", "seconds_per_step"):
            if seconds is not None and seconds > 0:
                paces.setdefault((key[0], key[1]), []).append(seconds)
        return {key: float(np.median(seconds)) for key, seconds in paces.items()}

    def readable(self) -> dict[Path, int]:
        """The files that are results, oldest first, and how many rows each has."""
        table, files = self.index()
        rows = {each["values"]: each["counts"] for each in table["stamp"].value_counts().to_pylist()}
        return {path: rows[stamp] for stamp, path in files.items() if stamp in rows}

    def names(self) -> dict[str, set[str]]:
        """The stored tasks and optimizers, and the tasks with paths over a plane (`path`) or imported rows only."""
        table, _ = self.index()
        names = {name: set(table[name].unique().to_pylist()) for name in ("task", "optimizer")}
        imported = names["task"] - {task for task, _ in self.pairs()}
        return names | {"path": set(table.filter(table["path"])["task"].to_pylist()), IMPORTED: imported}

    def pairs(self) -> set[tuple[str, str]]:
        """The tasks and optimizers that were run, not imported."""
        rows = listed(self.index()[0], "task", "optimizer", "mode")
        return {(task, optimizer) for task, optimizer, mode in rows if mode != IMPORTED}

    def tables(self, tasks: Collection[str] | None = None) -> Iterator[Any]:
        """The readable files, or those that have rows of some tasks, as Arrow tables."""
        read: set[str] = set()
        while True:
            table, files = self.index()
            if tasks is not None:
                table = rows_of(table, "task", tasks)
            wanted = set(table["stamp"].unique().to_pylist()) - read
            for stamp in (stamp for stamp in files if stamp in wanted):
                rows = self.open(files[stamp])
                if rows is None:  # damaged after it was indexed: what it held is computed again
                    (self.folder / "index.parquet").unlink(missing_ok=True)
                else:
                    yield rows if tasks is None else rows_of(rows, "task", tasks)
            read |= wanted
            # A file that was merged into a larger one meanwhile is gone, and the larger one is not read yet.
            if all(os.path.lexists(files[stamp]) for stamp in wanted):
                return

    def read(self, path: Path | io.BytesIO) -> pd.DataFrame:
        return pq.read_table(path, use_threads=False).to_pandas()

    def finished(self, cells: Collection[str] | None = None) -> dict[tuple[str, str, str, int], Stored]:
        """The keys of the cells (of these) that need not be computed again, with code and metrics of the newest row."""
        newest: dict[tuple[str, str, str, int], tuple[float, str, Stored]] = {}
        table, _ = self.index()
        self.older = sum(version != FORMAT for version in table["format"].to_pylist())
        if cells is not None:
            table = rows_of(table, "cell", cells)
        names = (*KEY, "width", "created", "status", "code", "metrics", "format")
        for *key, planned, width, created, status, code, metrics, version in listed(table, *names):
            if version == FORMAT:
                found = (*key, planned or width)
                latest = (created, status, Stored(code, frozenset(metrics.split())))
                newest[found] = max(newest.get(found, latest), latest)
        return {key: stored for key, (_, status, stored) in newest.items() if status in FINAL}

    def frame(
        self,
        every: bool = False,
        older: bool = False,
        tasks: Collection[str] | None = None,
        cells: Collection[str] | None = None,
    ) -> pd.DataFrame:
        """One row for each cell (of these tasks, or of these), the newest of each key, or `every` one ever stored.

        Rows of older code, or other data, of a task and optimizer that were run again since, are left out; with `older`
        they are shown under a name of their own, such as `kron (code 1a2b3c4d)`.
        """
        if not (tables := list(self.tables(tasks))):
            self.older = 0
            return pd.DataFrame()
        merged = joined(tables)
        self.older = int((merged["format"] != FORMAT).sum())
        if cells is not None:
            merged = merged[merged["cell"].isin(cells)].reset_index(drop=True)
        merged["code"] = "of format 2" if "code" not in merged else merged["code"].fillna("of format 2")
        merged["data_hash"] = "" if "data_hash" not in merged else merged["data_hash"].fillna("")
        # Nothing was tuned, or all is imported.
        merged = merged.assign(**{name: math.nan for name in EXPECTED.split() if name not in merged})
        ordered = merged.assign(planned_width=planned_width(merged)).sort_values("created", kind="stable")
        # A row is in two files while they are merged.
        ordered = ordered.drop_duplicates([*KEY, "created"])
        if every:
            return ordered.reset_index(drop=True)
        kept = ordered.drop_duplicates(list(KEY), keep="last")
        # Of each group the code and the data that it was last run with: others do not mix.
        groups = kept.groupby([name for name in GROUP if name in kept], dropna=False, sort=False)
        code, data = (kept[name] == groups[name].transform("last") for name in ("code", "data_hash"))
        newest = code & data
        if older:
            other = ("data " + kept["data_hash"].str[:8]).where(code, "code " + kept["code"].astype(str))
            named = kept["optimizer"] + " (" + other + ")"
            kept = kept.assign(optimizer=kept["optimizer"].where(newest, named))
        else:
            kept = kept[newest]
        return kept.reset_index(drop=True)

    def keep(self, name: str, held: bool = False) -> Kept:
        return Kept(self.partial / f"{name}.npz", held)

    def forget(self, program: str) -> None:
        """Delete the carries of a program that is stored, also those of older code.

        One that cannot be deleted is never read again.
        """
        for carry in self.partial.glob(f"{program}-*.npz"):
            with contextlib.suppress(OSError):
                carry.unlink(missing_ok=True)


class Kept:
    """The saved carry of one group of lanes, so that an interrupted program goes on.

    One that is `held` outlives the end of its lanes: until all of the program is stored, a crash may need it again.
    """

    def __init__(self, path: Path, held: bool = False):
        self.path, self.held = path, held

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
        with whole(self.path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, arrays=len(arrays), **arrays)

    def clear(self) -> None:
        if not self.held:
            self.path.unlink(missing_ok=True)


GROUP = ("task", "optimizer", "schedule", "framework", "dtype", "precision", "steps", "device_kind")
"""The columns that are equal in rows of one median, or of the trials of one choice."""


EXPECTED = "trial state_floats_per_parameter commit cpu_model optbench_version platform threads"
"""The columns that every frame has, if only without values."""
INDEX = {
    **dict.fromkeys(("stamp", "cell", "device_kind", "mode", "status", "code", "metrics"), "string"),
    **{"task": "string", "optimizer": "string", "width": "int64", "planned_width": "int64"},
    **{"format": "int64", "created": "float64", "seconds_per_step": "float64", "path": "bool"},
}
"""The columns by which rows are found, with their types; `stamp` tells the file, `path` whether it has paths."""
INDEX_FROM = 64
"""Files that the index must have read before it is worth writing."""


def rows_of(table: Any, name: str, values: Collection[str]) -> Any:
    """The rows of an Arrow table that have one of these values."""
    options = pc.SetLookupOptions(pa.array(values, pa.string()))
    wanted = pc.call_function("is_in", [table[name]], options)
    return table if pc.call_function("all", [wanted]).as_py() else table.filter(wanted)


def listed(table: Any, *names: str) -> Iterator[tuple[Any, ...]]:
    """These columns of every row."""
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def joined(tables: Sequence[Any]) -> pd.DataFrame:
    """Arrow tables as one frame, without the columns that have no value anywhere."""
    types: dict[str, set[Any]] = {}
    for table in tables:
        for name, kind in zip(table.column_names, table.schema.types, strict=True):
            types.setdefault(name, set()).add(kind)
    # Columns whose type differs between files are joined by pandas.
    mixed = {name for name, kinds in types.items() if len(kinds - {pa.null()}) > 1}

    def columns(table: Any, of: bool) -> Any:
        return table.select([name for name in table.column_names if (name in mixed) == of])

    alike = pa.concat_tables([columns(table, False) for table in tables], promote_options="default")
    nan_too = pc.NullOptions(nan_is_null=True)
    missing = {name: pc.call_function("is_null", [alike[name]], nan_too) for name in alike.column_names}
    empty = [name for name, flags in missing.items() if pc.call_function("all", [flags]).as_py()]
    # Few rows are many operations on strings, which cost least as Python's own.
    how: Any = {"types_mapper": {pa.string(): pd.StringDtype("python", na_value=np.nan)}.get}
    whole = alike.drop_columns(empty).to_pandas(**how)
    if not mixed:
        return whole
    parts = (columns(table, True).to_pandas(**how) for table in tables)
    # A column that is empty in one file would change the dtype for all.
    rest = pd.concat([part.dropna(axis="columns", how="all") for part in parts], ignore_index=True)
    return whole.join(rest)[[name for name in types if name in whole or name in rest]]


def indexed(tables: Mapping[str, Any], schema: Any) -> Any:
    """The rows of files, by their stamps, as they are in the index."""
    if not tables:
        return schema.empty_table()
    table = pa.concat_tables(tables.values(), promote_options="permissive")
    none = pa.nulls(len(table))
    own = {name: table[name] if name in table.column_names else none for name in schema.names}
    lengths = list(map(len, tables.values()))
    own["stamp"] = pa.array(np.repeat(list(tables), lengths))
    paths = ["evaluation.x" in each.column_names for each in tables.values()]
    own["path"] = pa.array(np.repeat(paths, lengths))
    for name in ("planned_width", "width"):
        own[name] = pc.fill_null(own[name].cast("int64"), 0)
    for name in ("code", "metrics"):
        own[name] = pc.fill_null(own[name].cast("string"), "")
    return pa.table(own).cast(schema)


FLEETING: dict[Path, Path] = {}
"""For a folder of runs, the one that ends with this process."""


def fleeting(runs: Path) -> Path:
    """A folder beside the runs that lives as long as this process."""
    if runs not in FLEETING:
        FLEETING[runs] = Path(tempfile.mkdtemp(prefix="optbench-"))
        atexit.register(shutil.rmtree, FLEETING[runs], ignore_errors=True)
    return FLEETING[runs]
