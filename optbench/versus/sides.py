"""The two sides of a comparison, and their rows.

`adam@HEAD~1` is adam as that commit of optbench's checkout has it, `mine.py:make@v1` as that of the file's repository
does. A commit runs from a worktree in a temporary folder, in a process of its own that imports from there: nothing of
it is loaded into this one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from optbench import catalogue, environment, origin
from optbench.cell import Cell
from optbench.execute.order import Order
from optbench.execute.pool import Pool
from optbench.execute.session import Session
from optbench.fields import UserError, digest
from optbench.optimizer import Optimizer
from optbench.record import code_of
from optbench.store import Store, Stored
from optbench.suite import Suite
from optbench.task import Task

if TYPE_CHECKING:
    import pandas as pd


class BudgetSpent(Exception):
    """The time is over, or would be before the next seeds have run; what had finished is stored."""


class Side(NamedTuple):
    """What is compared: its label, the optimizer as this process knows it, and the commit that it is run from."""

    label: str
    optimizer: Optimizer
    checkout: environment.Checkout | None

    @classmethod
    def of(cls, thing: Any, stack: contextlib.ExitStack) -> Side:
        """An optimizer in any form, or text with @COMMIT behind it, whose worktree goes with the stack."""
        text, ref = parted(thing) if isinstance(thing, str) else (thing, None)
        optimizer, checkout = catalogue.optimizer(text), None
        check_imports(optimizer)
        if ref is not None:
            source = origin.file_of_target(text) or source_of(optimizer)
            checkout = stack.enter_context(environment.checked_out(source.parent, ref))
            checkout.target(text)
        return cls(thing if isinstance(thing, str) else optimizer.label(), optimizer, checkout)


def parted(text: str) -> tuple[str, str | None]:
    """The optimizer and the commit of `mine.py:make@HEAD`; an @ in a path or in brackets begins no commit."""
    found = re.fullmatch(r"(.+?)@([^:\[\]]*)", text)
    return (found[1], found[2]) if found else (text, None)


def source_of(optimizer: Optimizer) -> Path:
    path = origin.file_of(optimizer.made_of()[0].__module__)
    if path is None:
        raise UserError(f"{optimizer.label()} has no source file, so it has no commits. Leave out the @.")
    return path


def check_imports(optimizer: Optimizer) -> None:
    """Refuse a file whose local imports this process has from another folder: then both sides would share them."""
    module = optimizer.made_of()[0].__module__
    if module not in origin.FILES:
        return
    file = Path(origin.FILES[module])
    for name, path in origin.closure([module], origin.is_own).items():
        beside = file.parent / f"{name.replace('.', '/')}.py"
        if beside.is_file() and beside.resolve() != path.resolve():
            raise UserError(
                f"{file} imports {name}, which the other side has from {path}. Rename one, or compare commits."
            )


class Part(NamedTuple):
    """Cells of one side: a task, learning rates (None: the optimizer has none) and seeds."""

    side: Side
    task: Task
    rates: tuple[float | None, ...]
    seeds: range

    def cells(self, suite: Suite) -> list[Cell]:
        """By learning rate and seed."""
        optimizer, swept = self.side.optimizer, self.side.optimizer.swept()
        at = [optimizer.replace(**{swept.name: rate}) if swept else optimizer for rate in self.rates]
        setting = suite.settings(self.task)[0]
        return [suite.cell(self.task, setting, o, seed) for o in at for seed in self.seeds]


class Current(Session):
    """A session that does not take rows of other code for stored ones."""

    @cached_property
    def stored(self) -> dict[Cell, Stored]:
        """Those of this code."""
        return {cell: its for cell, its in super().stored.items() if its.code == code_of(cell)}


class Runner:
    """Cells of either side to rows, until a deadline; its workers stay, so that a look costs no new import of jax."""

    def __init__(self, order: Order, deadline: float):
        self.order, self.deadline = order, deadline
        self.results = os.path.abspath(order.request.results)
        how = (self.results, order.jobs, order.request.timeout, order.device.platform)
        self.pool = Pool[Any](*how, stay=True)

    def rows(self, parts: Sequence[Part]) -> list[pd.DataFrame]:
        """The rows of each part, by learning rate and seed; BudgetSpent when the deadline has come."""
        sessions = {self.folder(part): self.session(part) for part in parts if part.side.checkout is None}
        owners = {cell: session for session in sessions.values() for cell in session.cells}
        programs = [program for session in sessions.values() for program in session.programs]
        for event in self.pool.run(sorted(programs, key=lambda program: program.cost)):
            if event.program is not None:
                owners[event.program.cells[0]].keep(event.kind, event.program, event.facts)
            if event.kind == "failed" and event.program is not None:
                label = event.program.cells[0].optimizer.label()
                raise UserError(f"{label} failed: {event.facts['status']}: {event.facts['reason']}")
            if time.monotonic() > self.deadline:
                raise BudgetSpent
        return [
            self.of_commit(part) if part.side.checkout else self.own(sessions[self.folder(part)])
            for part in parts
        ]

    def folder(self, part: Part) -> str:
        """A store for each optimizer and task: a look reads its rows only, and another comparison finds them."""
        return os.path.join(self.results, digest([part.task.spec(), part.side.optimizer.spec()])[:12])

    def session(self, part: Part) -> Current:
        request = dataclasses.replace(self.order.request, results=self.folder(part))
        cells = tuple(part.cells(self.order.suite))
        return Current(dataclasses.replace(self.order, request=request, cells=cells))

    def own(self, session: Session) -> pd.DataFrame:
        """The newest row of each cell that this code gave."""
        codes = {cell.id(): code_of(cell) for cell in session.cells}
        every = session.store.frame(every=True)
        mine = every[(every["device_kind"] == self.order.device.kind) & every["cell"].isin(codes)]
        mine = mine[mine["code"] == mine["cell"].map(codes)].drop_duplicates("cell", keep="last")
        return mine.set_index("cell", drop=False).loc[list(codes)].reset_index(drop=True)

    def of_commit(self, part: Part) -> pd.DataFrame:
        """The rows of a commit, by `optbench.run` of its own code, in a store of its own."""
        side, task, suite, checkout = part.side, part.task, self.order.suite, part.side.checkout
        assert checkout is not None
        text, _ = parted(side.label)
        ran_by = environment.commit() if ":" in text else ""  # a file's commit says nothing of optbench
        store = Path(self.results) / f"{checkout.commit[:12]}-{digest([text, ran_by])[:8]}"
        options = {
            "opt": checkout.target(text), "lr": None if part.rates[0] is None else part.rates,
            "seeds": part.seeds.stop, "steps": suite.settings(task)[0][1], "framework": suite.framework,
            "jobs": self.order.jobs, "device": self.order.device.platform, "results": str(store), "progress": False,
        } | ({} if self.order.request.vet else {"vet": False})  # fmt: skip
        try:
            done = subprocess.run(
                [sys.executable, "-c", OF_COMMIT], cwd=checkout.folder, capture_output=True, text=True, check=False,
                env=checkout.variables([text]),
                input=json.dumps([origin.pack(task, task.made_of()), options]),
                timeout=max(1.0, self.deadline - time.monotonic()),
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            raise BudgetSpent from late
        if done.returncode:
            raise UserError(f"{side.label} cannot be run: {done.stderr.strip().splitlines()[-1]}")
        frame = Store(store).frame()
        mine = frame[(frame["task"] == task.label()) & (frame["steps"] == options["steps"])]
        mine = mine if part.rates[0] is None else mine[mine["trial"].isin(part.rates)]
        return mine[mine["seed"].isin(part.seeds)].sort_values(["trial", "seed"]).reset_index(drop=True)


OF_COMMIT = """
import json, sys, optbench
from optbench import origin
task, options = json.load(sys.stdin)
optbench.run(task=origin.unpack(task), **options)
"""
