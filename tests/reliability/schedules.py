"""The pool without processes: ten thousand schedules by seed, in which workers die, hang, answer twice and run out.

A schedule is a list of jobs, a number of workers and, for each job that a worker is given, what happens and when, all
drawn from the seed. Time is simulated. Whatever happens, each job ends exactly once, and a result belongs to its job.
"""

from __future__ import annotations

import heapq
import queue
import random
import signal
from collections import Counter
from dataclasses import dataclass
from typing import Any
from unittest import mock

from optbench.execute import pool
from tests.reliability import Outcomes

WAYS = {"done": 60, "failed": 5, "killed": 8, "crashed": 6, "hangs": 4, "out of memory": 8, "twice": 9}
"""What becomes of a job in a worker, and how often in a hundred."""


@dataclass(frozen=True)
class Job:
    """So many lanes, of which half as many need half the memory."""

    name: str
    lanes: int
    cost: float
    roomy: bool

    @property
    def family(self) -> tuple[str, str]:
        return self.name, ""

    def halves(self) -> tuple[Job, ...]:
        parts = (self.lanes + 1) // 2, self.lanes // 2
        return tuple(
            Job(self.name, n, self.cost * n / self.lanes, self.roomy) for n in parts if self.lanes > 1
        )

    def message(self) -> dict[str, Any]:
        return {"name": self.name, "lanes": self.lanes}


class World:
    """A clock that may jump, and messages on their way."""

    def __init__(self, seed: int):
        self.draw = random.Random(seed)
        self.now = self.draw.random() * 1e6
        self.coming: list[tuple[float, int, Any, dict[str, Any]]] = []
        self.sent = 0
        self.running: set[int] = set()

    def monotonic(self) -> float:
        return self.now

    def send(self, seconds: float, worker: Any, event: str, **facts: Any) -> None:
        self.sent += 1
        heapq.heappush(self.coming, (self.now + seconds, self.sent, worker, {"event": event, **facts}))

    def get(self, timeout: float) -> Any:
        """The next message, as from the queue of a pool."""
        if self.draw.random() < 0.002:
            self.now += 1e5  # the machine slept
        if not self.coming or self.coming[0][0] > self.now + timeout:
            self.now += timeout
            raise queue.Empty
        at, _, worker, message = heapq.heappop(self.coming)
        self.now = max(self.now, at)
        return worker, message


def worker_of(world: World) -> type:
    class Worker:
        """As the pool's, without a process."""

        def __init__(self, place: pool.Place, outbox: Any):
            self.place, self.number, self.program, self.heard = place, place.number, None, world.now
            self.errors, self.given, self.resident, self.oom_kills, self.dead = (
                ["Segfault"],
                0,
                0,
                None,
                False,
            )
            self.process = self
            world.send(0.1, self, "ready")

        pid = 0

        def poll(self) -> int | None:
            return -9 if self.dead else None

        def give(self, program: Job, results: str) -> None:
            assert not self.dead, "a dead worker was given a job"
            assert self.number not in world.running, "two workers on one core"
            world.running.add(self.number)
            self.program, self.heard, self.given = program, world.now, self.given + 1
            [way] = world.draw.choices([*WAYS], [*WAYS.values()])
            seconds, own = (
                world.draw.expovariate(1.0),
                {"number": self.given, "rows": (program.name, program.lanes)},
            )
            world.send(seconds / 2, self, "progress", steps=1)
            if way in ("done", "twice"):
                for times in range(1 + (way == "twice")):
                    world.send(seconds + times * world.draw.random(), self, "done", **own)
            elif way in ("failed", "out of memory"):
                status = "error" if way == "failed" else way
                world.send(seconds, self, "failed", status=status, reason="it", **own)
            elif way in ("killed", "crashed"):
                code = -signal.SIGKILL if way == "killed" else -signal.SIGSEGV
                world.send(seconds, self, "died", code=code)
                self.dead = world.draw.random() < 0.5  # the message may come after the end is seen

        def end(self) -> None:
            self.dead = True
            world.running.discard(self.number)

    return Worker


def simulate(seed: int) -> str:
    """'' if all went well in the schedule of this seed, else what did not."""
    world = World(seed)
    draw = world.draw
    jobs = [
        Job(f"job {i}", draw.randint(1, 9), draw.random() * 100, draw.random() < 0.3)
        for i in range(draw.randint(1, 12))
    ]
    lanes: Counter[str] = Counter()
    with (
        mock.patch.object(pool, "Worker", worker_of(world)),
        mock.patch.object(pool, "time", world),
    ):
        made = pool.Pool("", draw.randint(1, 5), 30.0)
        made.outbox = world  # pyright: ignore[reportAttributeAccessIssue]
        for steps, event in enumerate(made.run(jobs)):
            if event.kind in ("done", "failed", "halved", "retried"):
                world.running.discard(event.worker)
            job = event.program
            if event.kind in ("done", "failed"):
                if job is None:
                    return "an answer about no job"
                lanes[job.name] += job.lanes
                if event.kind == "done" and event.facts["rows"] != (job.name, job.lanes):
                    return "a result of another job"
            if steps > 10_000:
                return "no end"
    wanted = Counter({job.name: job.lanes for job in jobs})
    return "" if lanes == wanted else f"ended {lanes - wanted} too often, {wanted - lanes} never"


def schedules(sample: int | None = None) -> Outcomes:
    """Seeds from 0 on; ten thousand of them are all."""
    for seed in range(sample or 10_000):
        try:
            wrong = simulate(seed)
        except AssertionError as error:
            wrong = str(error)
        yield (
            "lost" if "never" in wrong or "often" in wrong else "wrong" if wrong else "survived",
            f"{seed}: {wrong}",
        )
