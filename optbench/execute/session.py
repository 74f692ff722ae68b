"""One run from request to result: cells, what the store has, programs, workers, rows."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from optbench import environment, plan
from optbench.cell import PRECISIONS, Cell, Status, Trace
from optbench.execute.devices import Device, resolve
from optbench.execute.pool import Event, Job, Pool
from optbench.execute.request import Request
from optbench.fields import UserError
from optbench.store import Store

if TYPE_CHECKING:
    import pandas as pd


class Session:
    """A request that has been checked: how much there is to do, doing it, and what came out."""

    stage = ""
    """What this is of a run that has stages (see `execute.tuning`)."""

    def __init__(self, request: Request, cells: Sequence[Cell] | None = None):
        self.request = request
        self.cells = request.cells() if cells is None else list(cells)
        self.device = self.place(request.device)
        self.jobs = self.workers(request.jobs)
        self.check_precision()
        self.store = Store(request.results)
        self.store.prepare()

    def place(self, asked: str) -> Device:
        """The device, of every framework of the run; the CPU if one of them sees no other."""
        found = [resolve(asked, name) for name in dict.fromkeys(cell.framework for cell in self.cells)]
        return min(found, key=lambda device: device.platform != "cpu")

    def workers(self, asked: int | None) -> int:
        """How many workers run programs: one for each core, or one for each accelerator."""
        if self.device.platform == "cpu":
            return asked or len(environment.cores())
        there = self.device.number
        if asked is not None and asked > there:
            raise UserError(
                f"--jobs {asked} is more than the {there} {self.device.platform} here ({self.device.kind}), and "
                f"each worker needs one of its own. Leave --jobs out, or give --jobs {there}."
            )
        return asked or there

    def check_precision(self) -> None:
        """Refuse a precision that the device does not have."""
        precision = self.cells[0].precision
        if self.device.platform == "cpu" and precision != PRECISIONS[0]:
            raise UserError(
                f"--precision {precision} is for accelerators; on a CPU products of float32 are whole. "
                "Leave it out, or choose another --device."
            )

    @cached_property
    def planned(self) -> list[plan.Program]:
        """Every cell in its program, stored or not."""
        memory = plan.SHARE * self.device.memory or None
        return plan.programs(self.cells, self.device.platform, self.request.lanes, self.jobs, memory)

    @cached_property
    def programs(self) -> list[plan.Program]:
        """What is not in the store yet."""
        stored = set() if self.request.again else self.store.finished()
        todo = []
        for program in self.planned:
            keys = [(cell.id(), self.device.kind, program.mode) for cell in program.cells]
            missing = tuple(cell for cell, key in zip(program.cells, keys, strict=True) if key not in stored)
            if missing:
                todo.append(dataclasses.replace(program, cells=missing))
        return todo

    @property
    def twinned(self) -> bool:
        """Whether the question is how far the frameworks are apart."""
        return self.cells[0].twin is not None

    @property
    def notes(self) -> list[str]:
        """What is worth saying about the data that is read."""
        return [note for task in dict.fromkeys(cell.task for cell in self.cells) for note in task.notes()]

    @property
    def missing(self) -> int:
        """How many cells will be computed."""
        return sum(len(program.cells) for program in self.programs)

    def run(self, beside: Sequence[Job] = ()) -> Iterator[Event]:
        """Compute what is missing, and other jobs beside it on the same workers.

        A program that fails leaves rows that say so, and the others go on.
        """
        results = os.path.abspath(self.request.results)
        pool = Pool[Any](results, self.jobs, self.request.timeout, self.device.platform)
        for event in pool.run(sorted([*self.programs, *beside], key=lambda job: job.cost)):
            if event.kind == "failed" and isinstance(event.program, plan.Program):
                status = Status(event.facts["status"])
                traces = [Trace(cell, status, event.facts["reason"]) for cell in event.program.cells]
                facts = {"device_kind": self.device.kind, "mode": event.program.mode}
                try:
                    self.store.write(traces, environment.facts() | facts)
                except (
                    OSError
                ) as error:  # most often a full disk, which no later program would survive either
                    raise self.store.unwritable(error) from error
            yield event

    def frame(self, curves: bool = True) -> pd.DataFrame:
        """The rows of this request's cells, on its device and in its modes, in the order of the request."""
        frame = self.store.frame(curves)
        if frame.empty:
            return frame
        order = {cell.id(): i for i, cell in enumerate(self.cells)}
        modes = {cell.id(): program.mode for program in self.planned for cell in program.cells}
        asked = (frame["mode"] == frame["cell"].map(modes)) & (frame["device_kind"] == self.device.kind)
        return frame[asked].sort_values("cell", key=lambda column: column.map(order)).reset_index(drop=True)


@dataclass
class Result:
    """What a run gave: `frame` has one row for each cell, `table` one for each task and optimizer."""

    frame: pd.DataFrame

    @cached_property
    def table(self) -> pd.DataFrame:
        """The comparison that `optbench run` prints."""
        from optbench.stats.summary import summarise

        return summarise(self.frame)

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False)

    def __repr__(self) -> str:
        from optbench.stats.summary import as_text

        return as_text(self.table)


def run(
    suite: str = "quickstart",
    opt: str | Sequence[str] | None = None,
    task: str | Sequence[str] | None = None,
    lr: float | Sequence[float] | None = None,
    **options: Any,
) -> Result:
    """Run a suite and return its result; what the store has is not computed again.

    The arguments are those of `optbench run`: suite, opt, task, lr, tuning, trials, fresh, schedule, framework, dtype,
    precision, seeds, steps, data, device, jobs, results, again, timeout, lanes.

    Raises:
        UserError: something that was asked for cannot be done.
    """

    def tuple_of(value: Any) -> Any:
        return value if value is None else (value,) if isinstance(value, str | int | float) else tuple(value)

    from optbench.execute.tuning import stages

    session = None
    for session in stages(Request(suite, tuple_of(opt), tuple_of(task), tuple_of(lr), **options)):
        for _ in session.run():
            pass
    assert session is not None  # there is always a first stage
    return Result(session.frame())
