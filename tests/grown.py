"""A store that has grown: the cells of a suite, made up, among those of a hundred others."""

import hashlib
import io
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from optbench import environment
from optbench.cell import Status, Trace
from optbench.execute.order import Order
from optbench.execute.request import Request
from optbench.plan import Program
from optbench.protocol import Counts
from optbench.resultfile import encoded, stem
from optbench.store import Store

OTHERS = 100
"""Tasks that the suite does not have."""


def traces(program: Program) -> list[Trace]:
    """A finished run of each cell, whose losses follow from its id."""
    made = []
    for cell in program.cells:
        rng = np.random.default_rng(int(cell.id(), 16))
        losses = np.geomspace(1, rng.uniform(1e-3, 0.5), cell.steps).astype(np.float32)
        at = np.array(cell.task.evaluation_steps(cell.steps), np.int32)
        names = {"loss", cell.task.selection, cell.task.score, *(goal.metric for goal in cell.task.targets())}
        values = {name: losses[np.minimum(at, cell.steps - 1)] for name in names}
        made.append(Trace(cell, Status.DONE, "", losses, at, values, Counts(cell.steps, 0, 0)))
    return made


def rows(program: Program) -> bytes:
    facts = {"device_kind": "cpu", "mode": program.mode, "lanes": len(program.cells), "program_seconds": 1.0}
    facts |= {
        "program_steps": program.cells[0].steps,
        "parameters": 100,
        "compile_seconds": 1.0,
        "evaluation_seconds": 0.1,
    }
    made = traces(program)
    for trace in made:
        trace.facts |= facts
    return encoded(made, environment.facts() | ({"width": program.width} if program.planned else {}))


def grow(folder: Path, cells: int, request: Request, each: int = 1) -> Store:
    """Store a request's cells, and others until there are so many, `each` programs a file, which is not synced."""
    store = Store(folder)
    store.prepare()
    programs = Order.of(request).planned
    tables = []
    for program in programs:
        data = rows(program)
        store.put(data, stem(program.cells[0]))
        tables.append(pq.read_table(io.BytesIO(data)))
    stored, number = sum(map(len, tables)), 0
    while stored < cells:
        table = pa.concat_tables([tables[number % len(tables)]] * each)[: cells - stored]
        own = {
            "cell": [
                hashlib.sha256(f"{number} {row}".encode()).hexdigest()[:20] for row in range(len(table))
            ],
            "task": [f"other_{number % OTHERS}"] * len(table),
        }
        for name, values in own.items():
            table = table.set_column(table.column_names.index(name), name, pa.array(values))
        pq.write_table(table, buffer := io.BytesIO(), compression="zstd")
        data = buffer.getvalue()
        (store.runs / f"other-{number}.{zlib.crc32(data):08x}.parquet").write_bytes(data)
        stored, number = stored + len(table), number + 1
    return store
