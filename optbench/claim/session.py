"""Measuring: stored measurements are not repeated; missing ones are computed by one set of workers.

results/claims/ has one immutable JSON file for each measurement, written whole or not at all.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from optbench import environment
from optbench.cell import FORMAT, Status
from optbench.claim import Claim, Measurement, Record
from optbench.claim.rules import digest_of_rule, registered
from optbench.environment import whole
from optbench.execute.order import Order
from optbench.execute.pool import Event, Pool
from optbench.execute.request import Request, check_numbers
from optbench.execute.session import Session
from optbench.fields import UserError, digest
from optbench.plan import Program
from optbench.protocol import FRAMEWORKS
from optbench.store import Store

FAILURE = ("optimizer", "status", "reason")
"""The columns that describe a failed run."""


class Ledger:
    """The measurements of a results folder; the newest of each id counts."""

    def __init__(self, results: str | Path):
        self.folder = Path(results) / "claims"
        self.passed_over: dict[str, str] = {}
        """Unreadable files, and why."""

    def records(self) -> dict[str, Record]:
        """The newest record of each measurement id."""
        newest: dict[str, Record] = {}
        for path in sorted(self.folder.glob("[!.]*.json"), key=lambda path: path.name):
            try:
                data = json.loads(path.read_text())
                if data["format"] != FORMAT:
                    raise ValueError(f"of another record format than {FORMAT}")
                record = Record(path, data["numbers"], data["facts"], float(data["created"]))
                name = str(data["id"])
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                self.passed_over[path.name] = f"{type(error).__name__}: {error}"[:120]
                continue
            if name not in newest or newest[name].created <= record.created:
                newest[name] = record
        return newest

    def write(self, measurement: Measurement, numbers: Any, facts: Mapping[str, Any]) -> Record:
        """A new file; it carries the digest of the registered rules, which are older than what it measured."""
        rules = digest([list(row) for row in registered().values()])[:12]
        created, facts = time.time(), {**environment.facts(), "registered_rules": rules, **facts}
        name = f"{measurement.call.replace(':', '-')}-{measurement.id[:8]}-{time.time_ns():x}-{os.getpid():x}.json"
        path, record = self.folder / name, {"format": FORMAT, "id": measurement.id, **measurement.message()}
        record |= {"numbers": numbers, "facts": facts, "created": created}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole(path) as temporary:
                temporary.write_text(json.dumps(record, indent=1))
        except OSError as error:
            raise UserError(
                f"claims folder {str(self.folder)!r} cannot be written: {error.strerror}. Give another --results."
            ) from error
        return Record(path, numbers, facts, created)


class Done(NamedTuple):
    """A finished measurement, or finished lanes that measurements read; `reason` is '' or why it failed."""

    what: Measurement | Program
    reason: str = ""


class Inquiry:
    """Selected claims: their measurements, which of them are missing, and the records."""

    def __init__(
        self,
        asked: Sequence[Claim],
        results: str,
        jobs: int | None = None,
        again: bool = False,
        timeout: float = 600.0,
    ):
        check_numbers(timeout, jobs=jobs)
        self.asked, self.again, self.timeout = asked, again, timeout
        self.jobs = jobs or len(environment.cores())
        self.ledger = Ledger(results)
        for one in asked:
            digest_of_rule(one.ruling)  # cached now: the source may be edited during a long measurement
        self.records = self.ledger.records()
        if self.missing:
            Store(results).prepare()  # fails before anything is measured if the folder cannot be written
        self.failures: dict[str, str] = {}
        """Measurement id to the reason."""

    @cached_property
    def measurements(self) -> list[Measurement]:
        """Each once, in the order of the claims."""
        return list({a.measurement.id: a.measurement for a in self.asked}.values())

    @cached_property
    def missing(self) -> list[Measurement]:
        """Not stored, or all with `again`; cheap ones first, as a pool expects them."""
        missing = [m for m in self.measurements if self.again or m.id not in self.records]
        return sorted(missing, key=lambda m: m.cost)

    def serves(self, measurement: Measurement) -> str:
        """The claims that read a measurement: `document: claim, claim; document: claim`."""
        names: dict[str, list[str]] = {}
        for claim in self.asked:
            if claim.measurement.id == measurement.id:
                names.setdefault(claim.document.name, []).append(claim.short)
        return "; ".join(f"{document}: {', '.join(claims)}" for document, claims in names.items())

    @cached_property
    def session(self) -> Session | None:
        """All runs that missing measurements read; each lane runs once."""
        requests = [request for m in self.missing for request in m.runs]
        if not requests:
            return None
        cells = {cell.id(): cell for request in requests for cell in request.cells()}
        order = Order.of(dataclasses.replace(self.placed(requests[0]), again=self.again))
        return Session(order.only(tuple(cells.values())))

    def placed(self, request: Request) -> Request:
        """A request on the CPU with this inquiry's workers and time limit, and a store apart from the user's runs."""
        own = {"jobs": self.jobs, "timeout": self.timeout, "device": "cpu"}
        return dataclasses.replace(request, results=str(self.ledger.folder), **own)

    def read(self) -> Iterator[Done]:
        """Measure what reads runs, after these are stored."""
        for measurement in (m for m in self.missing if m.runs):
            wall, cpu = time.perf_counter(), time.process_time()
            frames = [Session(Order.of(self.placed(request))).frame() for request in measurement.runs]
            rows = [row for frame in frames for row in zip(*(frame[name] for name in FAILURE), strict=True)]
            lost = [": ".join(map(str, row)) for row in rows if not Status(row[1]).final]
            if lost:
                yield self.failed(measurement, lost[0])
                continue
            numbers = measurement.function()(frames, **measurement.inputs)
            seconds = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
            yield self.kept(measurement, numbers, seconds)

    def measure(self) -> Iterator[Done]:
        """First the runs, with JAX's programs in the same pool; then what reads runs; then PyTorch's programs."""
        calls, where = [m for m in self.missing if not m.runs], os.path.abspath(self.ledger.folder)
        programs = {name: [m for m in calls if m.framework == name] for name in FRAMEWORKS}
        beside = programs.pop("jax")
        yield from self.settled((self.session or Pool(where, self.jobs, self.timeout)).run(beside))
        yield from self.read()
        for others in programs.values():  # in another pool: no worker imports two frameworks
            yield from self.settled(Pool(where, self.jobs, self.timeout).run(others))

    def settled(self, events: Iterator[Event]) -> Iterator[Done]:
        for event in events:
            if event.program is None or event.kind not in ("done", "failed"):
                continue
            what, facts = event.program, dict(event.facts)
            reason = f"{facts['status']}: {facts['reason']}" if event.kind == "failed" else ""
            if not isinstance(what, Measurement):
                yield Done(what, reason)
            elif reason:
                yield self.failed(what, reason)
            else:
                yield self.kept(what, facts.pop("numbers"), facts)

    def kept(self, measurement: Measurement, numbers: Any, facts: dict[str, Any]) -> Done:
        self.records[measurement.id] = self.ledger.write(measurement, numbers, facts)
        return Done(measurement)

    def failed(self, measurement: Measurement, reason: str) -> Done:
        """Nothing is stored; older records stay."""
        self.failures[measurement.id] = reason
        return Done(measurement, reason)
