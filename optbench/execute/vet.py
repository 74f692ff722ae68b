"""Checks of a user's own optimizers and tasks before a run, in workers, before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optbench import environment, origin
from optbench.execute.job import Call
from optbench.execute.pool import run_calls
from optbench.fields import Named, UserError, digest, is_own
from optbench.task import MEASURED, Measured, Task


@dataclass(frozen=True)
class Vetting(Call):
    """A job that checks one optimizer or task in one framework."""

    thing: Named
    framework: str
    check: str = ""
    """The key of a check of `optbench.conformance`; empty: those of `optbench.testing`."""
    cost = 1.0

    @property
    def family(self) -> tuple[str, str]:
        return (self.key, "")

    @property
    def key(self) -> str:
        """Changes with its code."""
        return digest([self.thing.spec(), self.framework, environment.version(self.framework), VERSION])

    @property
    def path(self) -> Path:
        """Where its report is kept if all checks hold."""
        return environment.cache_folder() / "vetted" / f"{self.key}.json"

    def message(self) -> dict[str, Any]:
        packed = origin.pack(self.thing, self.thing.made_of())
        module, check = ("conformance", {"check": self.check}) if self.check else ("testing", {})
        inputs = {"packed": packed, "framework": self.framework, **check}
        return {"call": f"optbench.{module}:in_worker", "inputs": inputs, "framework": self.framework}


VERSION = 2
"""Counts up when the checks change."""


def reports(
    jobs: Sequence[Vetting], workers: int, timeout: float
) -> Iterator[tuple[Vetting, dict[str, Any]]]:
    """Each job with its `findings`, `flops` and `floats`."""
    for job, facts in run_calls(jobs, workers, timeout):
        if "numbers" in facts:
            yield job, facts["numbers"]
        else:
            yield job, {"findings": [[job.check or "runs", False, f"{facts['reason']}."]]}


def vet(things: Sequence[Named], frameworks: Sequence[str], workers: int, timeout: float) -> None:
    """Check a user's own optimizers and tasks once for each version of their code; UserError if one fails."""
    jobs = [Vetting(thing, name) for thing in things for name in frameworks if is_users(thing)]
    known = {}
    for job in jobs:
        kept = environment.remembered(job.path)
        if kept and not any(part in origin.UNNAMED for part in job.thing.made_of()):
            known[job] = json.loads(kept)
    for job, report in reports([job for job in jobs if job not in known], workers, timeout):
        known[job] = report
        if all(holds for _, holds, _ in report["findings"]):
            environment.remember(job.path, json.dumps(report))
    faults = [
        f"{job.thing.kind} {job.thing.label()} in {job.framework}: {sentence}"
        for job in jobs
        for _, holds, sentence in known[job]["findings"]
        if not holds
    ]
    if faults:
        more = "See all checks with: optbench vet TARGET. Skip them with --no-vet."
        raise UserError("\n".join([*faults, more]))
    for job, report in known.items():
        if isinstance(job.thing, Task) and report["flops"]:
            MEASURED[job.thing] = Measured(report["flops"], report["floats"])


def is_users(thing: Named) -> bool:
    """Whether the source is a user's own, and not a released distribution's."""
    parts = [part for part in thing.made_of() if is_own(part)]
    return any("==" not in origin.code(part) for part in parts)
