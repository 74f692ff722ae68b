"""One result file: the rows of a program as Parquet, and what a file must be to be read."""

from __future__ import annotations

import io
import json
import re
import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from optbench import catalogue
from optbench.cell import FORMAT, Cell, Schedule, Trace
from optbench.fields import UserError
from optbench.lazy import np, pa, pd, pq
from optbench.record import check_columns, check_rows, question_text, record
from optbench.tuning import BLOCK, FRESH

KEY = ("cell", "device_kind", "mode", "planned_width")
"""The key of a stored row: the same cell elsewhere, in another mode or planned at another width, is another result.

A row whose own `width` is less than planned says that memory ran out at that."""
READABLE = {2, FORMAT}
"""Record formats that reports show; only rows of the newest count as stored."""
NEEDED = {*KEY[:3], "format", "status", "created"}
"""The columns that a file must have to be a result."""
LARGEST = 4 << 30
"""Bytes of a result file that is read at all."""
EXPANDS = 10_000
"""Values of a column for each byte of a file above which it is no result: a few bytes can hold a billion zeros."""


def checked(path: Path, columns: Sequence[str] | None) -> Any:
    """The columns of a result file as an Arrow table; an exception says why it is not one.

    The checksum in its name says that a file is as it was written; then only the columns that are needed are read.
    Another file, such as one that was renamed, is read and checked as a whole.
    """
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
    if len(types) < len(schema) or not set(types) >= NEEDED:
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
    return packed([{**record(trace), **facts, "created": time.time()} for trace in traces])


def packed(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as the bytes of a result file."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    buffer = io.BytesIO()
    written(pa.table(columns), buffer)
    return buffer.getvalue()


SAMPLE = 1000
"""The rows on which two ways of writing a column are compared."""
LOSS_BITS = "loss_bits"
"""The column that says how many significant bits each step's loss has, where that is not all."""


def written(table: Any, to: Any, level: int | None = None) -> None:
    """Write a table. Of lists of numbers the bytes of one significance are kept together: 40 % smaller files.

    Where a compression level is given, a list with few different values, such as errors on some hundred images, has a
    dictionary instead if that is smaller.
    """
    kinds = {field.name: field.type.value_type for field in table.schema if pa.types.is_list(field.type)}

    def write(columns: Any, to: Any, split: Collection[str]) -> None:
        places = {f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in split}
        others = [
            f"{name}.list.element" if name in kinds else name
            for name in columns.column_names
            if name not in split
        ]
        how: dict[str, Any] = {"use_dictionary": others, "column_encoding": places}
        pq.write_table(columns, to, compression="zstd", compression_level=level, **how)

    def is_smaller_split(name: str) -> bool:
        split, whole = io.BytesIO(), io.BytesIO()
        for to, how in ((split, [name]), (whole, [])):
            write(table.select([name]).slice(0, SAMPLE), to, how)
        return split.tell() <= whole.tell()

    floats = [name for name, kind in kinds.items() if pa.types.is_floating(kind)]
    write(table, to, floats if level is None else [name for name in floats if is_smaller_split(name)])


def rounded(table: Any, bits: int) -> Any:
    """A table whose losses of each step have at most so many significant bits, which `loss_bits` says.

    Lanes that only chose among trials, and are drawn at their ends alone, keep half as many. Losses are rounded up, so
    that none reaches a target before its time, and the last one of a lane not at all: it decides whether the final
    target is reached, and with which value; so by steps the same trials win as before.
    """
    losses = table.column("losses").combine_chunks()
    seeds = table.column("seed").to_numpy()
    before = LOSS_BITS in table.column_names
    had = table.column(LOSS_BITS).to_numpy() if before else np.full(len(seeds), np.nan)
    kept = np.fmin(np.where((seeds >= BLOCK) & (seeds < FRESH), -(-bits // 2), bits), had).astype(int)
    mantissa, exponent = np.frexp(losses.values.to_numpy(zero_copy_only=False))
    lengths = losses.value_lengths().fill_null(0).to_numpy()
    each = np.repeat(kept, lengths)
    values = np.ldexp(np.ceil(np.ldexp(mantissa, each)), exponent - each)
    last = np.cumsum(lengths)[lengths > 0] - 1
    values[last] = losses.values.to_numpy(zero_copy_only=False)[last]
    whole = pa.ListArray.from_arrays(losses.offsets, pa.array(values), mask=losses.is_null())
    rest = table.drop_columns(["losses", LOSS_BITS] if before else ["losses"])
    return rest.append_column("losses", whole).append_column(LOSS_BITS, pa.array(kept))


def planned_width(frame: pd.DataFrame) -> pd.Series:
    """The width that each row was planned at: its own, unless memory ran out; missing where lanes have no width."""
    own, planned = (frame.get(name, pd.Series(np.nan, frame.index)) for name in ("width", "planned_width"))
    return planned.fillna(own)


def stem(cell: Cell) -> str:
    name = re.sub(r"\W+", "-", f"{cell.task.name}-{cell.optimizer.name}")
    return f"{name}-{cell.id()[:8]}"
