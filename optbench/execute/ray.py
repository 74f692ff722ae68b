"""Jobs as tasks of a Ray cluster, on whose nodes worker processes run them as they do on this machine.

A task runs one job in a pool of one worker, on a core (or accelerator) of its own, and returns what happened last; rows
go to the store's owner, who writes them. Ray runs the task of a lost node again on another one, where the job continues
from the carry that it saved, if the results folder is shared.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic

from optbench import environment
from optbench.execute.job import Call, Event, J, Queue
from optbench.execute.pool import Pool
from optbench.fields import UserError

LOSSES = 10
"""How many lost nodes a job survives."""
RESOURCES = {"cpu": "CPU", "gpu": "GPU", "tpu": "TPU"}
NEEDS: dict[str, dict[str, Any]] = {"cpu": {}, "gpu": {"num_gpus": 1}, "tpu": {"resources": {"TPU": 1}}}
"""Of a task, beside a core."""


def connected(address: str | None) -> Any:
    """Ray, connected to a cluster; without an address, the one that RAY_ADDRESS names, or this machine."""
    if importlib.util.find_spec("ray") is None:
        raise UserError("--executor ray needs Ray. Install it: pip install 'optbench[ray]'")
    ray: Any = importlib.import_module("ray")
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False, include_dashboard=False)
        except (ConnectionError, ValueError) as error:
            raise UserError(
                f"--address {address!r} is no Ray cluster: {str(error).splitlines()[0]}"
            ) from error
    return ray


def slots(address: str | None, device: str) -> int:
    """How many workers the cluster has room for."""
    return max(1, int(connected(address).cluster_resources().get(RESOURCES[device], 0)))


class Ray(Generic[J]):
    """Runs jobs on a Ray cluster, the most expensive first, and yields events as jobs end."""

    def __init__(self, results: str, jobs: int, timeout: float, device: str, address: str | None):
        self.how, self.jobs, self.device, self.address = (results, timeout, device), jobs, device, address

    def run(self, programs: Sequence[J]) -> Iterator[Event[J]]:
        ray, waiting, running = connected(self.address), Queue[J](), {}
        task = ray.remote(on_node).options(max_retries=LOSSES, num_cpus=1, **NEEDS[self.device])
        waiting.put(programs)
        try:
            while running or waiting.jobs:
                while waiting.jobs and len(running) < self.jobs:
                    job = waiting.take(1)
                    running[task.remote(job.message(), job.roomy, *self.how)] = job
                for ended in ray.wait(list(running), timeout=1.0)[0]:
                    job = running.pop(ended)
                    try:
                        kind, facts = ray.get(ended)
                    except ray.exceptions.RayError as error:
                        full = isinstance(error, ray.exceptions.OutOfMemoryError)
                        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
                        kind = "failed"
                        facts = {"status": "out of memory" if full else "error", "reason": reason}
                    if kind == "failed":
                        yield from waiting.settle(0, job, facts)
                    else:
                        yield Event(kind, 0, job, facts)
        finally:
            for task in running:
                ray.cancel(task, force=True)

    def end(self) -> None:
        """Nothing stays: Ray keeps its processes."""


# --- on a node -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent(Call):
    """A job of another machine."""

    sent: dict[str, Any]
    roomy: bool
    cost = 1.0
    family = ("", "")

    def message(self) -> dict[str, Any]:
        return self.sent


POOLS: dict[Any, Pool[Sent]] = {}
"""Of this process, which Ray keeps for later tasks: workers that have imported a framework stay as long."""
CORES: list[IO[str]] = []
"""The lock of this process's core."""


def on_node(
    message: dict[str, Any], roomy: bool, results: str, timeout: float, device: str
) -> tuple[str, dict[str, Any]]:
    """Run one job; `done` or `failed`, and its facts."""
    if device == "cpu" and not CORES:
        take_core()
    pool = POOLS.setdefault((results, timeout, device), Pool[Sent](results, 1, timeout, device, stay=True))
    ended = [event for event in pool.run([Sent(message, roomy)]) if event.kind in ("done", "failed")]
    return ended[-1].kind, ended[-1].facts


def take_core() -> None:
    """Keep to a core that no other task of this machine has; Ray counts cores, and does not say which."""
    import fcntl

    for core in environment.cores():
        lock = (Path(tempfile.gettempdir()) / f"optbench-{os.getuid()}-core-{core}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        CORES.append(lock)
        os.sched_setaffinity(0, {core})
        return
