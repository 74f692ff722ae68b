"""A pool of worker processes, each on its own core or accelerator, monitored, and replaced when dead or silent."""

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
from dataclasses import dataclass
from typing import IO, Any, Generic

from optbench import environment
from optbench.execute.job import KILLED, Event, J, Job, Queue

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ROOMY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""glibc keeps what is freed: else each large temporary of each step costs its page faults again."""

KILLS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that others send; what a program does wrong ends it by others."""
MUCH = 0.5
"""Of the machine's memory, what workers have when a kill that the kernel did not count is taken for lack of memory:
programs that watch over memory kill before the kernel does."""


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
        """A worker's variables: on a CPU one thread and no search for accelerators, else its own accelerator."""
        variables = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if self.device == "cpu":
            return {**variables, **ONE_THREAD, "JAX_PLATFORMS": "cpu", **(ROOMY if self.roomy else {})}
        if self.device == "gpu":
            visible = variables.get("CUDA_VISIBLE_DEVICES")
            names = visible.split(",") if visible else []
            variables["CUDA_VISIBLE_DEVICES"] = names[self.number] if names else str(self.number)
        return variables


class Worker:
    """One process and what it is doing."""

    def __init__(self, place: Place, outbox: queue.SimpleQueue[tuple[Worker, dict[str, Any]]]):
        self.place, self.number, self.outbox = place, place.number, outbox
        self.program: Any = None
        self.heard = time.monotonic()
        self.resident = 0
        """Bytes of memory when it was last looked at."""
        self.given = 0
        """How many programs it was given; an answer has the number of its program."""
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
        threading.Thread(target=self.listen, args=(self.process.stdout,), daemon=True).start()
        threading.Thread(target=self.collect, args=(self.process.stderr,), daemon=True).start()

    def listen(self, lines: IO[str]) -> None:
        """Pass on the worker's messages; the end of its output is its death."""
        with lines:
            for line in lines:
                with contextlib.suppress(json.JSONDecodeError):  # a worker that is killed may end in mid-line
                    self.outbox.put((self, json.loads(line)))
        self.outbox.put((self, {"event": "died", "code": self.process.wait()}))

    def collect(self, lines: IO[str]) -> None:
        """Keep the last lines of standard error for a message."""
        with lines:
            self.errors.extend(line.rstrip() for line in lines)

    def give(self, program: Job, results: str) -> None:
        assert self.process.stdin is not None
        self.program, self.heard, self.oom_kills = program, time.monotonic(), environment.oom_kills()
        self.given += 1
        message = {"program": program.message(), "results": results, "number": self.given}
        with contextlib.suppress(BrokenPipeError):  # its death is on its way through `listen`
            self.process.stdin.write(json.dumps(message) + "\n")

    def end(self) -> None:
        """Kill the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.close()


class Pool(Generic[J]):
    """Runs programs on `jobs` workers and yields events in the order in which they happen."""

    def __init__(self, results: str, jobs: int, timeout: float, device: str = "cpu", stay: bool = False):
        self.stay = stay
        """Whether workers stay for the next run; then the caller ends them."""
        self.results, self.jobs, self.timeout, self.device = results, jobs, timeout, device
        self.outbox: queue.SimpleQueue[tuple[Worker, dict[str, Any]]] = queue.SimpleQueue()
        self.workers: list[Worker] = []
        self.waiting = Queue[J]()

    def run(self, programs: Sequence[J]) -> Iterator[Event[J]]:
        """Every program once: cheapest first on the first worker, most expensive first on the others."""
        self.waiting.put(programs)
        ended = False
        try:
            for worker in self.workers:
                self.feed(worker)
            while self.waiting.jobs and (number := len(self.workers)) < self.jobs:
                self.workers.append(self.hire(number, self.waiting.take(number)))
            while any(worker.program for worker in self.workers):
                yield from self.listen()
            ended = True
        finally:
            if not (self.stay and ended):
                self.end()

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
        self.workers.clear()

    def hire(self, number: int, program: J) -> Worker:
        """A new process with the allocator that suits a program, running it."""
        worker = Worker(Place(self.device, number, program.roomy), self.outbox)
        worker.give(program, self.results)
        return worker

    def feed(self, worker: Worker) -> None:
        """Send a worker the next program, if there is one; a dead worker or one of another kind is replaced."""
        worker.program = None
        if not self.waiting.jobs:
            return
        program = self.waiting.take(worker.number, worker.place.roomy)
        if program.roomy == worker.place.roomy and worker.process.poll() is None:
            worker.give(program, self.results)
        else:
            worker.end()
            self.workers[worker.number] = self.hire(worker.number, program)

    def listen(self) -> Iterator[Event[J]]:
        """Wait for one message, or for a worker to be silent too long."""
        try:
            worker, message = self.outbox.get(timeout=0.25)
        except queue.Empty:
            yield from self.watch()
            return
        if worker is not self.workers[worker.number]:
            return  # from a worker that was replaced
        worker.heard = time.monotonic()
        kind = message.pop("event")
        ends = kind in ("done", "failed")
        if ends and (worker.program is None or message.pop("number", worker.given) != worker.given):
            return  # a second answer, which is not one about the program that it has now
        if kind == "died" or message.get("status") == "out of memory":
            facts = self.death(worker, message["code"]) if kind == "died" else message
            yield from self.lose(worker, facts)
            return
        yield Event(kind, worker.number, worker.program, message)
        if ends:
            self.feed(worker)
        yield from self.watch()

    def watch(self) -> Iterator[Event[J]]:
        for worker in list(self.workers):
            with contextlib.suppress(OSError, ValueError):  # it has ended, or nobody counts
                worker.resident = environment.resident("VmRSS", worker.process.pid)
            silent = time.monotonic() - worker.heard
            if worker.program is not None and silent > self.timeout:
                reason = f"no sign of life for {silent:.1f} s (--timeout {self.timeout:g})"
                yield from self.lose(worker, {"status": "timeout", "reason": reason})

    def lose(self, worker: Worker, facts: dict[str, Any]) -> Iterator[Event[J]]:
        """A worker died, or its memory cannot be trusted: settle its program and start a fresh process."""
        program, worker.program = worker.program, None
        worker.end()
        if program is not None:
            yield from self.waiting.settle(worker.number, program, facts)
        for idle in [each for each in self.workers if each.program is None]:
            self.feed(idle)

    def death(self, worker: Worker, code: int) -> dict[str, Any]:
        """What the end of a process means. A killed one ran out of memory if the kernel says so or much was in use."""
        if -code not in KILLS:
            last = worker.errors[-1] if worker.errors else "no error output"
            return {"status": "error", "reason": f"the worker ended with code {code}: {last}"[:300]}
        kills, held = environment.oom_kills(), sum(each.resident for each in self.workers)
        starved = kills is not None and kills > (worker.oom_kills or 0)
        if code == -signal.SIGKILL and (starved or held > MUCH * environment.memory()):
            return {"status": "out of memory", "reason": "the system killed the worker for lack of memory"}
        again = "out of memory" if kills is None else "error"
        reason = f"the worker was killed from outside (signal {-code})"
        return {"status": KILLED, "again": again, "reason": reason}


def run_calls(jobs: Sequence[Any], workers: int, timeout: float) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each call with its `numbers`, or the `reason` why it failed; workers are started for each framework, so that
    none imports two.
    """
    for framework in dict.fromkeys(job.framework for job in jobs):
        own = [job for job in jobs if job.framework == framework]
        for event in Pool[Any](os.devnull, workers, timeout).run(own):
            if event.kind in ("done", "failed"):
                yield event.program, event.facts
