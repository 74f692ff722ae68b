"""Checks of a user's own things before a run, in workers: their mistakes are said before anything is computed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from optbench import environment, origin
from optbench.execute.pool import Pool
from optbench.fields import Named, UserError, digest, is_own
from optbench.task import MEASURED, Measured, Task


@dataclass(frozen=True)
class Vetting:
    """One thing to be checked in one framework, as a job."""

    thing: Named
    framework: str
    roomy = False
    cost = 1.0

    @property
    def family(self) -> tuple[str, str]:
        """It shares its need of memory with no other."""
        return (self.key, "")

    @property
    def key(self) -> str:
        """Changes with its code."""
        return digest([self.thing.spec(), self.framework, environment.version(self.framework), VERSION])

    def halves(self) -> tuple[Vetting, ...]:
        """It cannot be cut."""
        return ()

    def message(self) -> dict[str, Any]:
        """As JSON data."""
        _ = self.key  # every part has its origin before it travels
        packed = origin.pack(self.thing, self.thing.made_of())
        inputs = {"packed": packed, "framework": self.framework}
        return {"call": "optbench.testing:in_worker", "inputs": inputs, "framework": self.framework}


VERSION = 1
"""Counts up when the checks change."""


def reports(
    jobs: Sequence[Vetting], workers: int, timeout: float
) -> Iterator[tuple[Vetting, dict[str, Any]]]:
    """Each thing with what was found: `findings`, `flops`, `floats`."""
    by_framework = {job.framework: [each for each in jobs if each.framework == job.framework] for job in jobs}
    for own in by_framework.values():  # on workers of their own: none imports two frameworks
        for event in Pool[Vetting](os.devnull, workers, timeout).run(own):
            if event.kind == "failed" and event.program is not None:
                yield event.program, {"findings": [["runs", False, f"{event.facts['reason']}."]]}
            elif event.kind == "done" and event.program is not None:
                findings, flops, floats = event.facts["numbers"]
                yield event.program, {"findings": findings, "flops": flops, "floats": floats}


def vet(things: Sequence[Named], frameworks: Sequence[str], workers: int, timeout: float) -> None:
    """Check a user's own things once for each version of their code; UserError if one fails."""
    own = [Vetting(thing, name) for thing in things for name in frameworks if is_users(thing)]
    folder, known = environment.cache_folder() / "vetted", {}
    for job in own:
        path = folder / f"{job.key}.json"
        if path.is_file() and not any(part in origin.UNNAMED for part in job.thing.made_of()):
            known[job] = json.loads(path.read_text())
    for job, found in reports([job for job in own if job not in known], workers, timeout):
        known[job] = found
        if not faults(found):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{job.key}.json").write_text(json.dumps(found))
    said = [
        f"{job.thing.kind} {job.thing.label()} in {job.framework}: {sentence}"
        for job in own
        for sentence in faults(known[job])
    ]
    if said:
        more = "See all checks with: optbench vet TARGET. Run it all the same with --no-vet."
        raise UserError("\n".join([*said, more]))
    for job, found in known.items():
        if isinstance(job.thing, Task) and found["flops"]:
            MEASURED[job.thing] = Measured(found["flops"], found["floats"])


def faults(found: dict[str, Any]) -> list[str]:
    """The sentences of what does not hold."""
    return [sentence for _, holds, sentence in found["findings"] if not holds]


def is_users(thing: Named) -> bool:
    """Whether the source of a thing is a user's own, and no released distribution's."""
    parts = [part for part in thing.made_of() if is_own(part)]
    return any("==" not in origin.code(part) for part in parts)
