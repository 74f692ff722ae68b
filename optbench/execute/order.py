"""A request that has been resolved, once: what is run, where, by how many workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from optbench import environment, plan
from optbench.cell import PRECISIONS, Cell
from optbench.execute import ray
from optbench.execute.devices import Device, resolve
from optbench.execute.request import Request
from optbench.execute.vet import vet
from optbench.fields import UserError
from optbench.optimizer import Optimizer
from optbench.store import Store
from optbench.suite import Asked, Suite


@dataclass(frozen=True)
class Order:
    """What one run does; of a run in stages, what one stage does."""

    request: Request
    suite: Suite
    cells: tuple[Cell, ...]
    device: Device
    jobs: int

    @classmethod
    def of(cls, request: Request) -> Order:
        """A request with its names resolved and everything checked; UserError if it is invalid."""
        suite = request.resolve()
        cells = tuple(suite.cells(request.rates))
        device = resolve(request.device, suite.framework)
        if device.platform == "cpu" and suite.precision != PRECISIONS[0]:
            raise UserError(
                f"--precision {suite.precision} is for accelerators; CPUs always use full float32 products. "
                "Leave it out, or choose another --device."
            )
        jobs = workers(request.jobs, device) if request.executor == "processes" else request.jobs
        jobs = jobs or ray.slots(request.address, device.platform)
        if not request.dry_run:  # a folder that cannot be written is known before anything is computed
            Store(request.results).prepare()
        if request.vet:
            here = min(jobs, len(environment.cores()))
            vet([*suite.optimizers, *suite.tasks], [suite.framework], here, request.timeout)
        order = cls(request, suite, cells, device, jobs)
        return order if request.shard is None else order.only(order.shard(*request.part))

    def reporting(self, winners: Mapping[Asked, Optimizer]) -> Order:
        return self.only(tuple(self.suite.reporting(winners)))

    def only(self, cells: tuple[Cell, ...]) -> Order:
        return dataclasses.replace(self, cells=cells)

    def shard(self, number: int, count: int) -> tuple[Cell, ...]:
        """The cells of one of `count` shards: longest first, each piece to the shard that has the least so far.

        A piece is a program, as it would be for `count` workers. Where rows are read together before the run ends, by
        the second of two stages, it is everything of a task and an optimizer.
        """
        pieces = [program.cells for program in self.programs(self.cells, count)]
        if self.suite.staged:
            pairs = [(task, optimizer) for task in self.suite.tasks for optimizer in self.suite.optimizers]
            alone = [dataclasses.replace(self.suite, tasks=(t,), optimizers=(o,)) for t, o in pairs]
            pieces = [tuple(suite.cells(self.request.rates)) for suite in alone]
        costs = [sum(program.cost for program in self.programs(piece, count)) for piece in pieces]
        falling = sorted(zip(costs, pieces, strict=True), key=lambda each: (-each[0], each[1][0].id()))
        shards, loads = [[] for _ in pieces[:count]], [0.0] * min(count, len(pieces))
        for cost, piece in falling:
            least = loads.index(min(loads))
            shards[least] += piece
            loads[least] += cost
        return tuple(shards[number]) if number < len(shards) else ()

    @cached_property
    def planned(self) -> list[plan.Program]:
        """Every cell in its program, stored or not."""
        return self.programs(self.cells, self.jobs)

    def programs(self, cells: Sequence[Cell], jobs: int) -> list[plan.Program]:
        memory = plan.SHARE * self.device.memory or None
        platform, lanes = self.device.platform, self.request.lanes
        return plan.programs(cells, platform, lanes, jobs, memory, self.suite.metrics)


def workers(jobs: int | None, device: Device) -> int:
    """How many workers run programs: by default one for each core, or one for each accelerator."""
    if device.platform == "cpu":
        return jobs or len(environment.cores())
    available = device.number
    if jobs is not None and jobs > available:
        raise UserError(
            f"--jobs {jobs} is more than the {available} {device.platform} here ({device.kind}), and "
            f"each worker needs one of its own. Leave --jobs out, or give --jobs {available}."
        )
    return jobs or available
