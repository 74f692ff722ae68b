"""`optbench merge`: the files of several results folders in one, and many small files in few large ones.

Files are copied as they are. A folder that is merged into itself is compacted: rows are written to a new file, and the
files that had them are deleted once it is complete. Whoever is killed, or reads meanwhile, finds each row at least
once, and readers count it once.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optbench.cell import FINAL
from optbench.environment import whole
from optbench.fields import UserError, digest
from optbench.resultfile import KEY, LOSS_BITS, rounded, written
from optbench.store import Store, rows_of

ROWS = 10_000
"""Of a compacted file; one of at least half as many is not written again."""
LEVEL = 19
"""Of compression in a compacted file: 15 % smaller, at five seconds for ten thousand rows."""
CONTENT = ("losses", "status", "evaluation_steps")
"""The columns, beside evaluations, whose bits must agree in two rows of a key."""
CAUSES = ("code", "cpu_model", "version.jaxlib", "version.torch", "version.numpy", "width")
"""The columns that may explain why they do not."""


@dataclass
class Merged:
    """What `merge` did."""

    copied: int = 0
    present: int = 0
    """Files that the folder had already."""
    compacted: int = 0
    """Small files whose rows are in larger ones now."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Files that are no results or cannot be read, and why."""
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    """Cells of which two folders have other bits: `cell`, `task`, `optimizer`, `seed`, `folders`, `differing`."""


def merge(folders: Sequence[str], into: str, bits: int | None = None) -> Merged:
    """Copy the results of folders into one, and compact it if it is among them, with so many bits of each step's loss.

    Raises:
        UserError: one of them is no results folder, the target cannot be written to, or bits are not 1 to 24.
    """
    target, merged, sources = Store(into), Merged(), [Store(folder) for folder in dict.fromkeys(folders)]
    for source in sources:
        if not source.runs.is_dir():
            raise UserError(f"{str(source.folder)!r} is not a results folder: it has no folder runs.")
    if bits is not None and not (
        1 <= bits <= 24 and all(source.runs.resolve() == target.runs.resolve() for source in sources)
    ):
        raise UserError(
            "--bits is 1 to 24 significant bits, and for a folder that is merged into itself. "
            "Write: optbench merge R --into R --bits 8"
        )
    target.prepare()
    merged.conflicts = conflicts(sources)
    try:
        for source in sources:
            if source.runs.samefile(target.runs):
                merged.compacted += compact(source, bits)
            else:
                copy(source, target, merged)
            merged.skipped |= {str(source.runs / name): why for name, why in source.passed_over.items()}
    except OSError as error:
        raise target.unwritable(error) from error
    return merged


def copy(source: Store, target: Store, merged: Merged) -> None:
    for path in [*source.readable(), *sorted(source.folder.glob("claims/[!.]*.json"))]:
        place = target.folder / path.relative_to(source.folder)
        if place.exists() and place.read_bytes() != path.read_bytes():
            place = place.with_name(f"{digest(str(path.resolve()))[:8]}-{place.name}")
        if place.exists():
            merged.present += 1
            continue
        with whole(place) as temporary:
            shutil.copy2(path, temporary)
        merged.copied += 1


def compact(store: Store, bits: int | None = None) -> int:
    """Put the rows of small files into larger ones, as far as their columns have one type; how many files are gone.

    With `bits`, of large files too: each step's loss then has so many significant bits.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts: list[tuple[Any, list[Path]]] = []
    rows, columns = store.readable(), {}
    for path in rows:
        schema = pq.read_schema(path).remove_metadata()
        columns[path] = schema.names
        if rows[path] >= ROWS // 2 and (bits is None or LOSS_BITS in schema.names):
            continue
        for place, (known, paths) in enumerate(parts):
            if sum(rows[each] for each in paths) < ROWS and (both := unified(known, schema)):
                parts[place] = (both, [*paths, path])
                break
        else:
            parts.append((schema, [path]))
    gone = 0
    for schema, part in parts:
        tables = {path: table for path in part if (table := store.open(path, columns[path])) is not None}
        if len(tables) < 2 and (bits is None or LOSS_BITS in schema.names):
            continue
        table = pa.concat_tables(tables.values(), promote_options="default")
        content = io.BytesIO()
        written(table if bits is None else rounded(table, bits), content, LEVEL)
        store.put(content.getvalue(), f"merged-{digest(str(schema))[:8]}")
        for path in tables:
            path.unlink(missing_ok=True)
        gone += len(tables)
    return gone


def unified(one: Any, other: Any) -> Any:
    """Two schemas as one that has the columns of both; None if a column has two types."""
    import pyarrow as pa

    with contextlib.suppress(pa.ArrowTypeError):
        return pa.unify_schemas([one, other])


def conflicts(sources: Sequence[Store]) -> list[dict[str, Any]]:
    """The finished cells of which two folders have other bits, each folder's newest row."""
    keys = [set(source.finished()) for source in sources]
    shared = {key for i, own in enumerate(keys) for other in keys[:i] for key in own & other}
    cells = {key[0] for key in shared}
    found: dict[Any, dict[str, dict[str, Any]]] = {}
    for source in sources if shared else ():
        folder = str(source.folder)
        tasks = rows_of(source.index()[0], "cell", cells)["task"].unique().to_pylist()
        tables = (rows_of(table, "cell", cells).to_pylist() for table in source.tables(tasks))
        for row in itertools.chain.from_iterable(tables):
            width = int(row.get("planned_width") or row.get("width") or 0)
            key = (*(row[name] for name in KEY[:3]), width)
            if key in shared and row["status"] in FINAL:
                rows = found.setdefault(key, {})
                rows[folder] = max(row, rows.get(folder, row), key=lambda each: each["created"])
    differing = []
    for folders, rows in ((list(each), list(each.values())) for each in found.values()):
        exact = not any(row.get(LOSS_BITS) for row in rows)
        if len({bits(row, exact) for row in rows}) > 1:
            cell = {name: rows[0][name] for name in ("cell", "task", "optimizer", "seed")}
            causes = [name for name in CAUSES if len({row.get(name) for row in rows}) > 1]
            differing.append({**cell, "folders": folders, "differing": causes})
    return differing


def bits(row: dict[str, Any], exact: bool) -> str:
    """A digest of what was computed, without losses where some were rounded; the shortest text of a float is exact."""
    content = [name for name in CONTENT if exact or name != "losses"]
    names = sorted(name for name in row if name in content or name.startswith("evaluation."))
    return digest([(name, repr(row[name])) for name in names if row[name] is not None])
