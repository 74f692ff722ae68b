"""A pool of worker processes: each pinned to a core, watched, and replaced when it dies or stands still."""

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
from typing import Any, Generic, Protocol, TypeVar

from optbench import environment

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


class Job(Protocol):
    """What a worker can be given: a `plan.Program`, or a call of a function."""

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


class Worker:
    """One process and what it is doing."""

    def __init__(
        self, number: int, core: int | None, outbox: queue.SimpleQueue[tuple[Worker, dict[str, Any]]]
    ):
        self.number, self.core, self.outbox = number, core, outbox
        self.program: Any = None
        self.heard = time.monotonic()
        self.errors: deque[str] = deque(maxlen=20)
        pin = [] if core is None else ["--core", str(core)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "optbench.execute.worker", *pin],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=self.environment(),
            start_new_session=True,  # Ctrl-C reaches the driver only, which then ends its workers
        )
        threading.Thread(target=self.listen, daemon=True).start()
        threading.Thread(target=self.collect, daemon=True).start()

    @staticmethod
    def environment() -> dict[str, str]:
        """One thread; and, unless the user says otherwise, no search for accelerators that are not asked for."""
        return {**os.environ, **ONE_THREAD}

    def listen(self) -> None:
        """Pass on what the worker says; the end of its output is its death."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(json.JSONDecodeError):  # a worker that is killed may end in mid-line
                self.outbox.put((self, json.loads(line)))
        self.outbox.put((self, {"event": "died", "code": self.process.wait()}))

    def collect(self) -> None:
        """Keep the last lines of standard error for a message."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line.rstrip())

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


class Pool:
    """Runs programs on `jobs` workers and yields what happens, in the order it happens."""

    def __init__(self, results: str, jobs: int, timeout: float):
        self.results, self.jobs, self.timeout = results, jobs, timeout
        self.outbox: queue.SimpleQueue[tuple[Worker, dict[str, Any]]] = queue.SimpleQueue()
        cores = environment.cores()
        self.cores = [cores[i % len(cores)] for i in range(jobs)]
        self.workers: list[Worker] = []

    def run(self, programs: Sequence[J]) -> Iterator[Event[J]]:
        """Every program once; cheap ones first on the first worker, dear ones first on the others."""
        waiting = deque(programs)
        try:
            self.workers = [self.hire(i) for i in range(min(self.jobs, len(programs)))]
            for worker in self.workers:
                self.feed(worker, waiting)
            while any(worker.program for worker in self.workers):
                yield from self.listen(waiting)
        finally:
            for worker in self.workers:
                worker.end()

    def hire(self, number: int) -> Worker:
        """A new process on the core of this number."""
        return Worker(number, self.cores[number], self.outbox)

    def feed(self, worker: Worker, waiting: deque[Any]) -> None:
        """Give a worker the next program, if there is one."""
        worker.program = None
        if waiting:
            worker.give(waiting.popleft() if worker.number == 0 else waiting.pop(), self.results)

    def listen(self, waiting: deque[Any]) -> Iterator[Event]:
        """Wait for one message, or for a worker to have been silent too long."""
        try:
            worker, message = self.outbox.get(timeout=0.25)
        except queue.Empty:
            yield from self.watch(waiting)
            return
        if worker is not self.workers[worker.number]:
            return  # the last words of one that was replaced
        worker.heard = time.monotonic()
        kind, program = message.pop("event"), worker.program
        if kind == "died":
            if program is not None:
                yield Event("failed", worker.number, program, death(message["code"], worker.errors))
            self.replace(worker, waiting)
            return
        yield Event(kind, worker.number, program, message)
        if kind in ("done", "failed"):
            self.feed(worker, waiting)
        yield from self.watch(waiting)

    def watch(self, waiting: deque[Any]) -> Iterator[Event]:
        """End workers that have been silent for longer than the time limit."""
        for worker in list(self.workers):
            silent = time.monotonic() - worker.heard
            if worker.program is not None and silent > self.timeout:
                reason = f"no sign of life for {silent:.1f} s (--timeout {self.timeout:g})"
                facts = {"status": "timeout", "reason": reason}
                yield Event("failed", worker.number, worker.program, facts)
                worker.end()
                self.replace(worker, waiting)

    def replace(self, worker: Worker, waiting: deque[Any]) -> None:
        """A fresh process in the place of one that is gone."""
        worker.program = None
        if waiting:
            self.workers[worker.number] = self.hire(worker.number)
            self.feed(self.workers[worker.number], waiting)


def death(code: int, errors: Sequence[str]) -> dict[str, Any]:
    """Why a worker's program failed when the worker is simply gone."""
    if code == -signal.SIGKILL:
        return {
            "status": "out of memory",
            "reason": "the worker was killed (signal 9), most often for lack of memory",
        }
    last = errors[-1] if errors else "it said nothing"
    return {"status": "error", "reason": f"the worker ended with code {code}: {last}"[:300]}
