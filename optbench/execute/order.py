"""A request that has been resolved, once: what is run, where, by how many workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from optbench import environment, plan
from optbench.cell import PRECISIONS, Cell
from optbench.execute.devices import Device, resolve
from optbench.execute.request import Request
from optbench.execute.vet import vet
from optbench.fields import UserError
from optbench.optimizer import Optimizer
from optbench.store import Store
from optbench.suite import Suite
from optbench.task import Task


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
        frameworks = dict.fromkeys(cell.framework for cell in cells)
        # The CPU if one of the frameworks sees no other.
        device = min(
            (resolve(request.device, name) for name in frameworks), key=lambda d: d.platform != "cpu"
        )
        if device.platform == "cpu" and suite.precision != PRECISIONS[0]:
            raise UserError(
                f"--precision {suite.precision} is for accelerators; CPUs always use full float32 products. "
                "Leave it out, or choose another --device."
            )
        jobs = workers(request.jobs, device)
        Store(
            request.results
        ).prepare()  # a folder that cannot be written is known before anything is computed
        if request.vet:
            vet([*suite.optimizers, *suite.tasks], list(frameworks), jobs, request.timeout)
        return cls(request, suite, cells, device, jobs)

    def reporting(self, winners: Mapping[tuple[Task, Optimizer], Optimizer]) -> Order:
        return self.only(tuple(self.suite.reporting(winners)))

    def only(self, cells: tuple[Cell, ...]) -> Order:
        return dataclasses.replace(self, cells=cells)

    @property
    def twinned(self) -> bool:
        return self.suite.twins is not None

    @cached_property
    def planned(self) -> list[plan.Program]:
        """Every cell in its program, stored or not."""
        memory = plan.SHARE * self.device.memory or None
        where = (self.device.platform, self.request.lanes, self.jobs, memory)
        return plan.programs(self.cells, *where, self.suite.metrics)


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
