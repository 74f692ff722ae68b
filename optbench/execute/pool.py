"""A pool of worker processes, each on its own core or accelerator, watched, and replaced when dead or silent."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, Self, TypeVar

from optbench import environment

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
ROOMY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""glibc keeps what is freed: else each large temporary of each step costs its page faults again."""


@dataclass(frozen=True)
class Place:
    """Where a worker runs: its core or accelerator, and which allocator it has."""

    device: str
    number: int
    roomy: bool = False

    def words(self) -> list[str]:
        """The arguments that pin a worker to its core; the host threads of an accelerator may go anywhere."""
        if self.device != "cpu":
            return []
        cores = environment.cores()
        return ["--core", str(cores[self.number % len(cores)])]

    def environment(self) -> dict[str, str]:
        """What a worker's process is told: on a CPU one thread and no search for accelerators, else its own one."""
        told = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if self.device == "cpu":
            return {**told, **ONE_THREAD, "JAX_PLATFORMS": "cpu", **(ROOMY if self.roomy else {})}
        if self.device == "gpu":
            visible = told.get("CUDA_VISIBLE_DEVICES")
            names = visible.split(",") if visible else []
            told["CUDA_VISIBLE_DEVICES"] = names[self.number] if names else str(self.number)
        return told


class Job(Protocol):
    """What a worker can be given: a `plan.Program`, or a call of a function."""

    @property
    def cost(self) -> float:
        """CPU seconds, roughly."""
        ...

    @property
    def roomy(self) -> bool:
        """Whether its worker's allocator should keep what is freed."""
        ...

    @property
    def family(self) -> tuple[str, str]:
        """What else needs the same memory."""
        ...

    def halves(self) -> tuple[Self, ...]:
        """What takes about half the memory each; none if it cannot be cut."""
        ...

    def message(self) -> dict[str, Any]:
        """As JSON data."""
        ...


J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Event(Generic[J]):
    """Something a worker said, or was found to have done, about a program (None: about itself)."""

    kind: str
    worker: int
    program: J | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Executor(Protocol):
    """Where jobs run: processes of this machine (`Pool`), or anything that takes jobs and yields what happens.

    Events: `compiled` and `progress` with facts about a running job; `done` with what it gave (a program: its `rows`);
    `failed` with `status` and `reason`; `halved` where it goes on as smaller ones.
    """

    def run(self, programs: Sequence[Any]) -> Iterator[Event[Any]]:
        """Every job once."""
        ...


class Worker:
    """One process and what it is doing."""

    def __init__(self, place: Place, outbox: queue.SimpleQueue[tuple[Worker, dict[str, Any]]]):
        self.place, self.outbox = place, outbox
        self.program: Any = None
        self.heard = time.monotonic()
        self.errors: deque[str] = deque(maxlen=20)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "optbench.execute.worker", *place.words()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=place.environment(),
            start_new_session=True,  # Ctrl-C reaches the driver only, which then ends its workers
        )
        threading.Thread(target=self.listen, daemon=True).start()
        threading.Thread(target=self.collect, daemon=True).start()

    @property
    def number(self) -> int:
        """Its place in the pool."""
        return self.place.number

    def listen(self) -> None:
        """Pass on what the worker says; the end of its output is its death."""
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with contextlib.suppress(json.JSONDecodeError):  # a worker that is killed may end in mid-line
                    self.outbox.put((self, json.loads(line)))
        self.outbox.put((self, {"event": "died", "code": self.process.wait()}))

    def collect(self) -> None:
        """Keep the last lines of standard error for a message."""
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            self.errors.extend(line.rstrip() for line in lines)

    def give(self, program: Job, results: str) -> None:
        """Send a program."""
        assert self.process.stdin is not None
        self.program, self.heard = program, time.monotonic()
        message = {"program": program.message(), "results": results}
        with contextlib.suppress(BrokenPipeError):  # its death is on its way through `listen`
            self.process.stdin.write(json.dumps(message) + "\n")

    def end(self) -> None:
        """Kill the process and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.close()


class Pool(Generic[J]):
    """Runs programs on `jobs` workers and yields what happens, in the order it happens."""

    def __init__(self, results: str, jobs: int, timeout: float, device: str = "cpu", stay: bool = False):
        self.stay = stay
        """Whether workers stay for the next run; then the caller ends them."""
        self.results, self.jobs, self.timeout, self.device = results, jobs, timeout, device
        self.outbox: queue.SimpleQueue[tuple[Worker, dict[str, Any]]] = queue.SimpleQueue()
        self.workers: list[Worker] = []
        self.waiting: list[J] = []
        self.too_large: set[tuple[str, str]] = set()
        """Families of programs of which a single lane did not fit."""

    def run(self, programs: Sequence[J]) -> Iterator[Event[J]]:
        """Every program once; cheap ones first on the first worker, dear ones first on the others."""
        self.waiting = list(programs)
        try:
            for worker in self.workers:
                self.feed(worker)
            for number in range(len(self.workers), min(self.jobs, len(self.workers) + len(self.waiting))):
                program = self.take(number, None)
                self.workers.append(self.hire(number, program))
            while any(worker.program for worker in self.workers):
                yield from self.listen()
        finally:
            if not self.stay:
                self.end()

    def end(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.end()

    def take(self, number: int, roomy: bool | None) -> J:
        """The next program for a worker, of its own kind while there are any."""
        places = range(len(self.waiting)) if number == 0 else range(len(self.waiting) - 1, -1, -1)
        alike = (place for place in places if roomy in (None, self.waiting[place].roomy))
        return self.waiting.pop(next(alike, places[0]))

    def hire(self, number: int, program: J) -> Worker:
        """A new process, with the allocator that a program is for, and the program."""
        worker = Worker(Place(self.device, number, program.roomy), self.outbox)
        worker.give(program, self.results)
        return worker

    def feed(self, worker: Worker) -> None:
        """Give a worker the next program, if there is one; one that is gone or of another kind is replaced."""
        worker.program = None
        if not self.waiting:
            return
        program = self.take(worker.number, worker.place.roomy)
        if program.roomy == worker.place.roomy and worker.process.poll() is None:
            worker.give(program, self.results)
        else:
            worker.end()
            self.workers[worker.number] = self.hire(worker.number, program)

    def listen(self) -> Iterator[Event[J]]:
        """Wait for one message, or for a worker to have been silent too long."""
        try:
            worker, message = self.outbox.get(timeout=0.25)
        except queue.Empty:
            yield from self.watch()
            return
        if worker is not self.workers[worker.number]:
            return  # the last words of one that was replaced
        worker.heard = time.monotonic()
        kind = message.pop("event")
        if kind == "died" or message.get("status") == "out of memory":
            facts = death(message["code"], worker.errors) if kind == "died" else message
            yield from self.lose(worker, facts)
            return
        yield Event(kind, worker.number, worker.program, message)
        if kind in ("done", "failed"):
            self.feed(worker)
        yield from self.watch()

    def watch(self) -> Iterator[Event[J]]:
        """End workers that have been silent for longer than the time limit."""
        for worker in list(self.workers):
            silent = time.monotonic() - worker.heard
            if worker.program is not None and silent > self.timeout:
                reason = f"no sign of life for {silent:.1f} s (--timeout {self.timeout:g})"
                yield from self.lose(worker, {"status": "timeout", "reason": reason})

    def lose(self, worker: Worker, facts: dict[str, Any]) -> Iterator[Event[J]]:
        """A worker is gone, or its memory is not to be trusted: settle its program and take a fresh process."""
        program, worker.program = worker.program, None
        worker.end()
        if program is not None:
            yield from self.settle(worker.number, program, facts)
        for idle in [each for each in self.workers if each.program is None]:
            self.feed(idle)

    def settle(self, number: int, program: J, facts: dict[str, Any]) -> Iterator[Event[J]]:
        """What becomes of a program that failed: halves of it, if there was not enough memory and they may fit."""
        full = facts["status"] == "out of memory"
        halves = program.halves() if full and program.family not in self.too_large else ()
        if halves:
            self.waiting += halves
            self.waiting.sort(key=lambda each: each.cost)
            yield Event("halved", number, program, {**facts, "into": len(halves)})
            return
        yield Event("failed", number, program, facts)
        if full:
            self.too_large.add(program.family)
            others = [each for each in self.waiting if each.family == program.family]
            self.waiting = [each for each in self.waiting if each.family != program.family]
            for other in others:
                yield Event("failed", number, other, facts)


def death(code: int, errors: Sequence[str]) -> dict[str, Any]:
    """Why a worker's program failed when the worker is simply gone."""
    if code == -signal.SIGKILL:
        return {
            "status": "out of memory",
            "reason": "the worker was killed (signal 9), most often for lack of memory",
        }
    last = errors[-1] if errors else "it said nothing"
    return {"status": "error", "reason": f"the worker ended with code {code}: {last}"[:300]}
