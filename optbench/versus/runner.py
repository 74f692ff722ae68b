"""Cells of either side to rows: of today's code by workers that stay, of a commit by its own `optbench run`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from optbench.cell import Cell
from optbench.execute.order import Order
from optbench.execute.pool import Event, Pool
from optbench.execute.session import Session
from optbench.fields import UserError, digest
from optbench.record import code_of
from optbench.store import KEY, Store, Stored
from optbench.suite import Suite
from optbench.task import Task
from optbench.versus.sides import SUITE, BudgetSpent, Side, expression

if TYPE_CHECKING:
    import pandas as pd


class Part(NamedTuple):
    """Cells of one side: a task, learning rates (None: the optimizer has none) and seeds."""

    side: Side
    task: Task
    rates: tuple[float | None, ...]
    seeds: range

    def cells(self, suite: Suite) -> list[Cell]:
        """By learning rate and seed."""
        optimizer, swept = self.side.optimizer, self.side.optimizer.swept()
        at = [optimizer.replace(**{swept.name: rate}) if swept and rate else optimizer for rate in self.rates]
        return [suite.cell(self.task, each, seed) for each in at for seed in self.seeds]


class Current(Session):
    """A session that does not take rows of other code for stored ones."""

    @cached_property
    def stored(self) -> dict[Cell, Stored]:
        """Those of this code."""
        return {cell: its for cell, its in super().stored.items() if its.code == code_of(cell)}


class Workers(Pool[Any]):
    """A pool whose processes stay between runs: a look costs no new import of jax."""

    def run(self, programs: Sequence[Any]) -> Iterator[Event[Any]]:
        """Every program once."""
        self.waiting = list(programs)
        for number in range(min(self.jobs, len(programs))):
            if number < len(self.workers):
                self.feed(self.workers[number])
            else:
                self.workers.append(self.hire(number, self.take(number, None)))
        while any(worker.program for worker in self.workers):
            yield from self.listen()

    def close(self) -> None:
        """End the processes."""
        for worker in self.workers:
            worker.end()


class Runner:
    """Cells to rows, until a deadline."""

    def __init__(self, order: Order, deadline: float):
        self.order, self.deadline = order, deadline
        results = os.path.abspath(order.request.results)
        self.workers = Workers(results, order.jobs, order.request.timeout, order.device.platform)

    def rows(self, parts: Sequence[Part]) -> list[pd.DataFrame]:
        """The rows of each part, by learning rate and seed.

        Raises:
            BudgetSpent: the deadline has come.
            UserError: a program failed.
        """
        cells = [[] if part.side.checkout else part.cells(self.order.suite) for part in parts]
        order = self.order.only(tuple(dict.fromkeys(cell for each in cells for cell in each)))
        session = Current(order, self.workers)
        for event in session.run():
            if event.kind == "failed" and event.program is not None:
                label = event.program.cells[0].optimizer.label()
                raise UserError(f"{label} failed: {event.facts['status']}: {event.facts['reason']}")
            if time.monotonic() > self.deadline:
                raise BudgetSpent
        frame = session.store.frame(every=True)
        return [
            self.of_commit(part) if part.side.checkout else self.own(frame, its)
            for part, its in zip(parts, cells, strict=True)
        ]

    def own(self, frame: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
        """The newest row of each cell that this code gave."""
        places = {cell.id(): (i, code_of(cell)) for i, cell in enumerate(cells)}
        mine = frame[frame["cell"].isin(places) & (frame["device_kind"] == self.order.device.kind)]
        mine = mine[mine["code"] == mine["cell"].map(lambda cell: places[cell][1])]
        mine = mine.drop_duplicates(list(KEY), keep="last").drop_duplicates("cell", keep="last")
        return mine.sort_values("cell", key=lambda ids: ids.map(lambda cell: places[cell][0])).reset_index(
            drop=True
        )

    def of_commit(self, part: Part) -> pd.DataFrame:
        """The rows of a commit, by a run of its own from its worktree, in a store of its own."""
        side, task, suite = part.side, part.task, self.order.suite
        assert side.checkout is not None
        name = f"{side.checkout.commit[:12]}-{digest([side.text.rpartition('@')[0]])[:8]}"
        store = Path(self.order.request.results) / name
        steps = suite.steps or task.horizon
        with tempfile.TemporaryDirectory() as above:
            file = Path(above) / "try_suite.py"
            how = {"seeds": part.seeds.stop, "steps": steps, "framework": suite.framework}
            file.write_text(SUITE.format(task=expression(task), text=side.target(), **how))
            options = {"suite": file, "results": store.resolve(), "jobs": self.order.jobs}
            options["device"] = self.order.device.platform
            if part.rates[0] is not None:
                options["lr"] = ",".join(map(repr, part.rates))
            words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
            side.checkout.run(["run", *words], self.deadline - time.monotonic(), side.label)
        frame = Store(store).frame()
        mine = frame[
            (frame["task"] == task.label()) & (frame["steps"] == steps) & frame["seed"].isin(part.seeds)
        ]
        mine = mine if part.rates[0] is None else mine[mine["trial"].isin(part.rates)]
        return mine.sort_values(["trial", "seed"]).reset_index(drop=True)
