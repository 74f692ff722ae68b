"""Runs an order: what the store has, what the executor does, and the rows; in stages, where a suite tunes first.

The second stage, the winners on fresh seeds, depends only on what the first one stored, so an interrupted run
continues where it was, and a run that is stored computes nothing.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from optbench import environment, plan
from optbench.cell import Cell, Status, Trace
from optbench.execute.job import Event, Executor, Job
from optbench.execute.order import Order
from optbench.execute.pool import Pool
from optbench.execute.ray import Ray
from optbench.execute.twice import Twice, checks
from optbench.optimizer import Optimizer
from optbench.record import code_of
from optbench.resultfile import stem
from optbench.store import Store, Stored
from optbench.suite import Asked, Suite
from optbench.wording import count

if TYPE_CHECKING:
    import pandas as pd


OTHER_BITS = "run twice, it gave other losses: it draws from a state that is not the cell's, or memory fails"


def named(cell: Cell) -> tuple[str, str]:
    return cell.task.label(), cell.optimizer.label()


def executor_of(order: Order, stay: bool = False) -> Executor:
    """What an order asks for; its workers `stay` for another run until they are ended."""
    request = order.request
    where = (os.path.abspath(request.results), order.jobs, request.timeout, order.device.platform)
    return Ray[Any](*where, request.address) if request.executor == "ray" else Pool[Any](*where, stay)


class Session:
    """An order, the store of its rows, and an executor, by default processes on this machine."""

    stage = ""
    """The headline of a stage, in a run that has them."""

    def __init__(self, order: Order, executor: Executor | None = None):
        self.order, self.cells = order, order.cells
        self.store = Store(order.request.results)
        self.executor = executor or executor_of(order)

    @cached_property
    def stored(self) -> dict[Cell, Stored]:
        """The cells of the order that need not be computed: they are stored, with every requested metric."""
        cells = () if self.order.request.again else [cell.id() for cell in self.cells]
        finished = self.store.finished(cells)
        metrics = {metric.key() for metric in self.order.suite.metrics}
        rows = {
            cell: finished.get((cell.id(), self.order.device.kind, program.mode, program.planned))
            for program in self.order.planned
            for cell in program.cells
        }
        return {cell: row for cell, row in rows.items() if row is not None and metrics <= row.metrics}

    @cached_property
    def programs(self) -> list[plan.Program]:
        """What is not in the store yet."""
        missing = [
            (program, tuple(cell for cell in program.cells if cell not in self.stored))
            for program in self.order.planned
        ]
        paces = self.store.paces() if any(cells for _, cells in missing) else {}
        return [
            dataclasses.replace(program, cells=cells, pace=paces.get(named(cells[0]), 0.0))
            for program, cells in missing
            if cells
        ]

    @property
    def outdated(self) -> int:
        return sum(row.code != code_of(cell) for cell, row in self.stored.items())

    @property
    def notes(self) -> list[str]:
        return [note for task in dict.fromkeys(cell.task for cell in self.cells) for note in task.notes()]

    @property
    def to_come(self) -> float:
        """CPU seconds, roughly, of stages after this one."""
        return 0.0

    @property
    def missing(self) -> int:
        return sum(len(program.cells) for program in self.programs)

    def run(self, beside: Sequence[Job] = ()) -> Iterator[Event]:
        """Compute what is missing, and other jobs on the same workers.

        A program that fails leaves rows that say so, and the others continue.
        """
        twice = checks(self.programs, self.order.request.paranoid)
        checked = {cell.id() for check in twice for cell in check.first}
        losses: dict[str, Any] = {}
        again: list[tuple[Twice, dict[str, Any]]] = []
        jobs: list[Any] = [*self.programs, *twice, *beside]
        for event in self.executor.run(sorted(jobs, key=lambda job: job.cost)):
            if isinstance(event.program, Twice):
                if event.kind == "done":
                    self.store.forget(event.program.id)
                    rows = self.store.read(io.BytesIO(base64.b64decode(event.facts["rows"])))
                    again.append((event.program, dict(zip(rows["cell"], rows["losses"], strict=True))))
                continue
            if isinstance(event.program, plan.Program):
                self.keep(event.kind, event.program, event.facts)
                if event.kind == "done" and not checked.isdisjoint(cell.id() for cell in event.program.cells):
                    rows = self.store.read(event.facts["path"])
                    losses |= dict(zip(rows["cell"], rows["losses"], strict=True))
            yield event
        for check, other in again:
            for cell in check.differing(losses, other):
                wrong = plan.Program((cell,), check.mode, check.device, check.width, check.metrics)
                facts = {"status": str(Status.ERROR), "reason": OTHER_BITS}
                self.keep("failed", wrong, facts)
                yield Event[Any]("differs", 0, wrong, facts)

    def keep(self, kind: str, program: plan.Program, facts: dict[str, Any]) -> None:
        """Store the rows of a program that is done, or of one that failed, with the reason."""
        if kind == "done":
            rows = base64.b64decode(facts.pop("rows"))
            facts["path"] = self.store.put(rows, stem(program.cells[0]), program.unnamed)
            self.store.forget(program.id)
        elif kind == "halved":
            self.store.forget(program.id)
        elif kind == "failed":
            traces = [Trace(cell, Status(facts["status"]), facts["reason"]) for cell in program.cells]
            where: dict[str, Any] = {"device_kind": self.order.device.kind, "mode": program.mode}
            if program.planned:
                where |= {"width": program.width, "planned_width": program.planned}
            where["traceback"] = facts.get("trace", "")
            self.store.write(traces, environment.facts() | where, program.unnamed)

    def frame(self) -> pd.DataFrame:
        """The rows of this order's cells on its device and in its modes, in its order."""
        sequence = {cell.id(): i for i, cell in enumerate(self.cells)}
        frame = self.store.frame(tasks={cell.task.label() for cell in self.cells}, cells=sequence)
        if frame.empty:
            return frame
        planned = {cell.id(): program for program in self.order.planned for cell in program.cells}
        modes = {cell: program.mode for cell, program in planned.items()}
        widths = {cell: program.planned for cell, program in planned.items()}
        own = (frame["mode"] == frame["cell"].map(modes)) & (frame["device_kind"] == self.order.device.kind)
        own &= frame["planned_width"].fillna(0) == frame["cell"].map(widths)
        return frame[own].sort_values("cell", key=lambda column: column.map(sequence)).reset_index(drop=True)


class Choosing(Session):
    """The trials of an order, and the untuned optimizers on fresh seeds."""

    @property
    def to_come(self) -> float:
        """What the winners' steps take on fresh seeds; their programs are compiled by then."""
        order, of = self.order, {(cell.task, cell.optimizer) for cell in self.order.cells}
        winners = {each: each[-1] for each in order.suite.asked() if (each[0], each[-1]) in of}
        return sum(program.stepping for program in order.reporting(winners).planned)


class Reporting(Session):
    """The winners of a first stage on fresh seeds."""

    stage = "Stage 2 of 2 (reporting): winners on fresh seeds"

    def __init__(self, first: Session):
        self.chosen = first.frame()
        winning = winners(first.order.suite, self.chosen)
        super().__init__(first.order.reporting(winning), first.executor)

    def frame(self) -> pd.DataFrame:
        from optbench.stats.stages import staged

        suite = self.order.suite
        return staged((self.chosen, super().frame()), suite.optimizers, suite)


def winners(suite: Suite, chosen: pd.DataFrame) -> dict[Asked, Optimizer]:
    """For each task, setting and optimizer of a suite, or of a shard, the optimizer at the trial that was chosen."""
    from optbench.stats.stages import KEYS, in_stages, winning

    by = [KEYS.index(name) for name in ("task", "schedule", "steps", "optimizer")]
    won = winning(in_stages((chosen,), suite.optimizers, suite))
    places = {tuple(key[i] for i in by): place for key, place in won.items()}
    found: dict[Asked, Optimizer] = {}
    for asked in suite.asked():
        task, (schedule, steps), optimizer = asked
        key = (task.label(), schedule.label(), str(steps), optimizer.label())
        if key in places:
            fits = (None, places[key])
            found[asked] = next(trial.at for trial in suite.trials_of(optimizer) if trial.place in fits)
    return found


def stages(order: Order) -> Iterator[Session]:
    """The sessions of a run, each to be run before the next is taken; the last one has the frame of all stages."""
    suite = order.suite
    if not suite.staged or not order.cells:  # a shard may have nothing to do
        yield Session(order)
        return
    first = Choosing(order, executor := executor_of(order, stay=True))
    kind = "quasi-random" if suite.tuning == "quasi" else suite.tuning
    toys = f" ({suite.toy_trials} on toys)" if suite.toy_trials else ""
    trials = count(suite.trials, f"{kind} trial")
    first.stage = f"Stage 1 of 2 (tuning): {trials} per optimizer{toys}, plus its defaults"
    try:
        yield first
        yield Reporting(first)
    finally:
        executor.end()
