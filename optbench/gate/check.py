"""`optbench check`: every layer of the gate against committed numbers, or against another commit."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optbench import catalogue, environment, origin
from optbench.execute.job import Call
from optbench.execute.pool import run_calls
from optbench.fields import UserError, split_brackets
from optbench.gate import output, trajectory
from optbench.gate.fingerprint import Difference, Table, Value, compare, read, write
from optbench.gate.rows import STEPS
from optbench.optimizer import Optimizer
from optbench.optimizers import listed
from optbench.optimizers import names as ours
from optbench.protocol import FRAMEWORKS, installed

OURS = Path("results/baselines/optimizers.tsv")
"""The numbers of the listed optimizers, and of all others that are written here."""
TIMEOUT = 1800.0
AGAIN = 2
"""How often a time that is too long is measured again."""
CHECKED_FROM = 101
"""The first seed of a check; a baseline has other seeds, so that the distribution is tested and not the draws."""


@dataclass(frozen=True)
class Job(Call):
    """Every so many rows of one optimizer in one framework, as a worker runs them."""

    optimizer: Optimizer
    framework: str
    twins: bool
    part: int = 0
    of: int = 1

    @property
    def cost(self) -> float:
        return self.optimizer.flops({"matrix": (4, 6)})

    @property
    def family(self) -> tuple[str, str]:
        return (self.optimizer.label(), f"{self.framework} {self.part}")

    def message(self) -> dict[str, Any]:
        inputs = {
            "packed": origin.pack(self.optimizer, self.optimizer.made_of()),
            "framework": self.framework,
            "twins": self.twins,
            "first_seed": 1 if self.twins else CHECKED_FROM,
            "part": self.part,
            "of": self.of,
        }
        return {"call": "optbench.gate.fingerprint:in_worker", "inputs": inputs, "framework": self.framework}


def measured(optimizers: Sequence[Optimizer], jobs: int | None, twins: bool = False) -> Table:
    """The fingerprints, distributions and costs of optimizers; `twins` measures tolerances too."""
    table: Table = {}
    workers = jobs or len(environment.cores())
    of = -(-workers // len(optimizers))  # so that one optimizer too keeps all of them busy
    work = [
        Job(each, framework, twins, part, of)
        for each in optimizers
        for framework in installed(each.frameworks())
        for part in range(of)
    ]
    for job, facts in run_calls(work, workers, TIMEOUT):
        name = (job.optimizer.label(), job.framework, "defaults")
        if "reason" in facts:
            table["fingerprint", *name, f"error: {facts['reason']}"] = {}
        for *key, values in facts.get("numbers", ()):
            table[tuple(key)] = {int(step): Value(*value) for step, value in values.items()}
    return table


def check_optimizers(
    texts: Sequence[str], path: Path, update: str | None, against: str | None, jobs: int | None
) -> list[Difference]:
    """Compare optimizers with a file or a commit, or write the file as by the command `update`."""
    optimizers = [catalogue.optimizer(text) for text in texts]
    labels = {each.label() for each in optimizers}
    if len(labels) < len(set(optimizers)):
        raise UserError(
            "two optimizers have the same file name and name. Give each a file of its own: --baseline"
        )
    if update:
        if path.is_file():
            read(path)  # a file that cannot be read is refused before anything is measured
        new = measured(optimizers, jobs, twins=True)
        old = read(path) if path.is_file() else {}  # another process may have written it meanwhile
        kept = {key: values for key, values in old.items() if key[1] not in labels}
        failed = {key for key in new if key[4].startswith("error")}
        for line in sorted({f"left out: {key[1]} {key[3]} in {key[2]}: {key[4]}" for key in failed}):
            print(line)
        new = {key: values for key, values in new.items() if key not in failed}
        write(path, kept | new, update)
        print(f"wrote {len(new)} lines to {path}")
        return []
    if not against and not path.is_file():
        own = {} if path == OURS else {"opt": ",".join(texts), "baseline": str(path)}
        raise UserError(output.absent(path, **own))
    old = at_commit(against, texts, jobs) if against else read(path)
    here = installed(FRAMEWORKS)
    old = {key: values for key, values in old.items() if key[1] in labels and key[2] in here}
    found = compare(old, quiet(old, measured(optimizers, jobs), optimizers, jobs))
    rows = {key[:4] for key in old}
    print(f"{len(rows - {each[:4] for each in found})} of {len(rows)} rows as in {against or path}")
    for name in sorted({*FRAMEWORKS} - {*here}):
        print(f"Nothing is compared in {name}, which is not installed.")
    return found


def quiet(old: Table, new: Table, optimizers: Sequence[Optimizer], jobs: int | None) -> Table:
    """With the time of a step, where it is too long, measured again: a busy machine makes it several times as long."""
    for _ in range(AGAIN):
        long = {
            key
            for key, values in new.items()
            if key[4] == "time" and key in old and compare({key: old[key]}, {key: values})
        }
        if not long:
            break
        names = {key[1] for key in long}
        again = measured([each for each in optimizers if each.label() in names], jobs)
        for key in long & set(again):
            new[key] = min(new[key], again[key], key=lambda each: each[STEPS].value)
    return new


def at_commit(reference: str, texts: Sequence[str], jobs: int | None) -> Table:
    """The numbers that the code of another commit gives, from a worktree that is removed again."""
    here = Path.cwd().resolve()
    with environment.checked_out(here, reference) as checkout, tempfile.TemporaryDirectory() as kept:
        path = Path(kept) / "baseline.json"
        words = ["check", "--opt", *map(checkout.target, texts), "--baseline", str(path), "--update"]
        words += ["--jobs", str(jobs)] if jobs else []
        done = subprocess.run(
            [sys.executable, "-m", "optbench", *words],
            cwd=checkout.has(here),
            env=checkout.variables(texts),
            capture_output=True,
            text=True,
            check=False,
        )
        if not path.is_file():
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise UserError(f"--against {reference}: its code cannot be measured: {' '.join(last)}")
        return read(path)


def check(
    suite: str = "gate",
    baselines: str | None = None,
    update: bool = False,
    jobs: int | None = None,
    opt: Sequence[str] | None = None,
    baseline: str | None = None,
    against: str | None = None,
    junit: str | None = None,
    summary: str | None = None,
) -> tuple[int, dict[str, Any]]:
    """All layers; with a suite or its baselines given, the trajectories alone.

    Returns exit code 1 if something differs, and what `--json` prints.
    """
    found: list[Difference] = []
    alone = suite != "gate" or baselines is not None
    own = baseline is not None or against is not None
    if baseline and not opt:
        raise UserError("--baseline has numbers of your own optimizers. Name them: --opt mypackage:make")
    if update and against:
        raise UserError("--against compares with a commit: there is nothing to --update.")
    opt = [part for text in opt for part in split_brackets(text)] if opt else None
    names, named = opt or [suite], ",".join(opt) if opt else None
    command = output.update_command(
        suite=suite if alone else None, baselines=baselines, opt=named, baseline=baseline
    )
    if not alone:
        before = {key[1] for key in read(OURS)} if OURS.is_file() else set()
        gated = [name for name in ours() if name in before or name in listed()]
        names = opt or gated
        known = ours() if update else gated
        if not own and (unknown := sorted({text.partition("[")[0] for text in names} - set(known))):
            catalogue.optimizer(unknown[0])  # or it is misspelt
            raise UserError(
                f"{unknown[0]} has no numbers in {OURS}. Give a file: --baseline tests/optbench.json"
            )
        found += check_optimizers(names, Path(baseline or OURS), command if update else None, against, jobs)
    if not own:
        found += trajectory.check_suite(suite, baselines, update, jobs, None if alone else opt)
    for each in found:
        print(f"{each.layer}: {each.optimizer} {each.row} in {each.framework}: {each.sentence}")
    if found and not against:
        ours_too = ", and a line under Results in CHANGELOG.md" * (not own)
        print(f"If this is intended: {command}{ours_too}.")
    if junit:
        output.write_junit(Path(junit), names, found)
    if summary:
        output.append_summary(Path(summary), names, found)
    return int(bool(found)), {"checked": names, "differences": [each._asdict() for each in found]}
