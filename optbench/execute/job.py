"""Jobs and what happens to them: which one is next, and what becomes of one whose worker was lost.

Nothing here starts a process or reads a clock: `Queue` is the part of an executor that can be simulated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, Self, TypeVar


class Job(Protocol):
    """What a worker runs: a `plan.Program`, or a call of a function.

    `cost` is in CPU seconds, roughly. A `roomy` job needs an allocator that keeps what is freed. Jobs of one `family`
    compile the same program and need the same memory; `halves` are jobs that need about half of it each, none if the
    job cannot be cut. The `message` is JSON data.
    """

    @property
    def cost(self) -> float: ...

    @property
    def roomy(self) -> bool: ...

    @property
    def family(self) -> tuple[str, str]: ...

    def halves(self) -> tuple[Self, ...]: ...

    def message(self) -> dict[str, Any]: ...


class Call:
    """A job that calls a function in a worker. It cannot be divided, and its temporaries are small."""

    roomy = False

    def halves(self) -> tuple[Self, ...]:
        return ()


J = TypeVar("J", bound=Job)


KILLED = "killed"
"""The status of a job whose worker was killed, as far as is known not for lack of memory; no row has it. If it happens
`again`, that fact is the status."""


@dataclass(frozen=True)
class Event(Generic[J]):
    """What happened to a program (None: to a worker itself)."""

    kind: str
    worker: int
    program: J | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Executor(Protocol):
    """Where jobs run: processes of this machine (`Pool`), or anything that takes jobs and yields events.

    Events: `compiled` and `progress` with facts about a running job; `done` with its result (a program: its `rows`);
    `failed` with `status` and `reason`; `halved` where smaller jobs replace it, `retried` where it runs again.
    """

    def run(self, programs: Sequence[Any]) -> Iterator[Event[Any]]:
        """Run every job once."""
        ...

    def end(self) -> None:
        """End what stays after a run."""
        ...


class Queue(Generic[J]):
    """The jobs that no worker has, cheapest first."""

    def __init__(self) -> None:
        self.jobs: list[J] = []
        self.too_large: set[tuple[str, str]] = set()
        """Families of jobs of which a single lane did not fit."""
        self.homes: dict[tuple[str, str], int] = {}
        """The worker of each family, which compiles its program or has it compiled."""
        self.killed: list[J] = []
        """Jobs whose worker was killed; each is tried once more."""

    def put(self, jobs: Sequence[J]) -> None:
        self.jobs = sorted([*self.jobs, *jobs], key=lambda job: job.cost)

    def take(self, number: int, roomy: bool | None = None) -> J:
        """The next job for a worker: of its own kind while there are any, and of those rather one that no other worker
        compiles; cheapest first for the first worker."""
        indices = range(len(self.jobs)) if number == 0 else range(len(self.jobs) - 1, -1, -1)

        def alike(i: int) -> bool:
            return roomy in (None, self.jobs[i].roomy)

        def own(i: int) -> bool:
            return self.homes.get(self.jobs[i].family, number) == number

        both = (i for i in indices if alike(i) and own(i))
        job = self.jobs.pop(next(both, next(filter(alike, indices), indices[0])))
        self.homes[job.family] = number
        return job

    def settle(self, number: int, job: J, facts: dict[str, Any]) -> Iterator[Event[J]]:
        """A worker was lost: a killed one's job is tried again as it is, one that did not fit in halves."""
        if facts["status"] == KILLED:
            if job not in self.killed:
                self.killed.append(job)
                self.put([job])
                yield Event("retried", number, job, {**facts, "into": 1})
                return
            facts = {"status": facts["again"], "reason": f"{facts['reason']}, twice"}
        full = facts["status"] == "out of memory"
        halves = job.halves() if full and job.family not in self.too_large else ()
        if halves:
            self.put(halves)
            yield Event("halved", number, job, {**facts, "into": len(halves)})
            return
        yield Event("failed", number, job, facts)
        if full:
            self.too_large.add(job.family)
            others = [each for each in self.jobs if each.family == job.family]
            self.jobs = [each for each in self.jobs if each.family != job.family]
            for other in others:
                yield Event("failed", number, other, facts)
