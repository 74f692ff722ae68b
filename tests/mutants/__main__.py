"""Runs every mutant against the gate and writes docs/gate.md: `python -m tests.mutants [--jobs N] [--only TEXT]`.

What is measured is kept in .cache/mutants.jsonl under a digest of the mutant and of the optimizers that it concerns,
and is not measured again. Mutants run one after the other in a process: the package is imported again for each, jax and
torch are not.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator

from optbench import catalogue
from optbench.protocol import FRAMEWORKS
from tests.mutants import ROOT, Mutant, edited, mutants

KEPT = ROOT / ".cache" / "mutants.jsonl"
DOC = ROOT / "docs" / "gate.md"
BASELINE = ROOT / "results" / "baselines" / "optimizers.tsv"
GOLDEN = 1e-4
LAYERS = {"fingerprint": 0, "distribution": 2, "cost": 3}


def outcome(mutant: Mutant) -> dict[str, str]:
    """The layer that catches a mutant, and what it says; `survived` if none does."""
    warnings.simplefilter("ignore")
    golden = ""
    try:
        for table, old, label in itertools.chain(measured(mutant, seeds=False), measured(mutant, seeds=True)):
            from optbench.gate.fingerprint import compare

            rows = {key[:4] for key in table}
            own = {key: values for key, values in old.items() if key[:4] in rows and key[4] != "time"}
            if not any(row[0] == "distribution" for row in rows):
                own = {key: values for key, values in own.items() if key[0] != "distribution"}
            new = {key: values for key, values in table.items() if key[4] != "time"}
            found = sorted(compare(own, new), key=lambda each: LAYERS[each.layer])
            if not golden and any(row[3] == "defaults" for row in rows):
                golden = "yes" if golden_steps_differ(own, new) else "no"
            if found:
                first = found[0]
                return {
                    "layer": first.layer,
                    "says": f"{label} {first.row} in {first.framework}: {first.sentence}",
                    "golden": golden,
                }
    except Exception as error:
        return {
            "layer": "fingerprint",
            "says": f"raises {type(error).__name__}: {error}"[:160],
            "golden": "yes",
        }
    return {"layer": "survived", "says": "", "golden": golden}


def measured(mutant: Mutant, seeds: bool) -> Iterator[tuple]:
    """Row by row, the likeliest first: what the mutant gives, the numbers to compare with, and the optimizer.

    Without `seeds` no distribution is measured, which takes longer than all else; with them nothing but that.
    """
    wanted = mutant.rows.split(",") if mutant.rows else []
    for opt in mutant.opt.split(","):
        for framework in mutant.frameworks:
            clean = committed(opt, framework)
            with edited(mutant):
                from optbench import catalogue
                from optbench.gate import fingerprint
                from optbench.gate.rows import rows

                optimizer = catalogue.optimizer(opt)
                known = {key[3] for key in clean}
                own = [row for row in rows(optimizer) if row.framework == framework and row.name in known]
                if seeds:
                    own = [row for row in own if row.name == "defaults"]
                else:
                    fingerprint.SEEDS = 0
                own.sort(key=lambda row: not any(row.name.startswith(name) for name in wanted))
                for row in own:
                    table = fingerprint.measure_row(optimizer.label(), row, first_seed=101)
                    yield table, clean, optimizer.label()


def committed(opt: str, framework: str) -> dict:
    """The numbers of an optimizer without an edit: the baseline's, or measured now."""
    with edited(None):
        from optbench import catalogue
        from optbench.gate import fingerprint

        label = catalogue.optimizer(opt).label()
        table = {key: values for key, values in fingerprint.read(BASELINE).items() if key[1] == label}
        if not table:
            table = fingerprint.measure(catalogue.optimizer(opt), framework, twins=True)
        return {key: values for key, values in table.items() if key[2] == framework}


def golden_steps_differ(old: dict, new: dict) -> bool:
    """Whether a check of the first 8 steps with the defaults at 1e-4 sees it, as the tests of the field do."""
    for key, values in old.items():
        if key[0] == "fingerprint" and key[3] == "defaults":
            for step, (value, _) in values.items():
                after = new.get(key, {}).get(step)
                if step <= 8 and (after is None or not abs(after[0] - value) <= GOLDEN * (1 + abs(value))):
                    return True
    return False


@functools.cache
def numbers(opt: str) -> str:
    """The version of the code that the gate's numbers of an optimizer come from, in both frameworks."""
    from optbench.origin import version_of_numbers

    modules = (*catalogue.optimizer(opt).modules(), "optbench.tasks.leaves")
    return " ".join(version_of_numbers(modules, framework) for framework in FRAMEWORKS)


def digest(mutant: Mutant) -> str:
    """Changes with the mutant and with the code of the optimizers that it concerns."""
    parts = (repr(mutant), *map(numbers, mutant.opt.split(",")))
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]


def kept() -> dict[str, dict[str, str]]:
    """What was measured, by digest."""
    lines = KEPT.read_text().splitlines() if KEPT.is_file() else []
    return {row["digest"]: row for row in map(json.loads, lines)}


def chosen(only: str, opt: str) -> list[Mutant]:
    """Those whose name contains a text and whose first optimizer is among some."""
    wanted = opt.split(",") if opt else []
    return [
        each for each in mutants() if only in each.name and (not wanted or each.opt.split(",")[0] in wanted)
    ]


def work(core: int, part: int, parts: int, only: str, opt: str) -> None:
    """Run each `parts`-th mutant that was not run yet, on one core."""
    os.sched_setaffinity(0, {core})
    from optbench.execute.worker import ENGINES

    ENGINES["jax"]("cpu"), ENGINES["torch"]("cpu")
    done = kept()
    for mutant in chosen(only, opt)[part::parts]:
        key = digest(mutant)
        if key in done:
            continue
        begun = time.process_time()
        row = {"digest": key, "name": mutant.name, **outcome(mutant)}
        row["seconds"] = f"{time.process_time() - begun:.1f}"
        KEPT.parent.mkdir(exist_ok=True)
        with KEPT.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{row['layer']:12s} {mutant.name} ({row['seconds']} s) {row['says'][:100]}", flush=True)


def main() -> int:
    """Run what was not run yet, on each core; then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="", help="only mutants whose name contains this")
    parser.add_argument("--opt", default="", help="only mutants of these optimizers")
    parser.add_argument(
        "--part", type=int, nargs=2, default=None, help="for its own processes: core and part"
    )
    parser.add_argument("--page", action="store_true", help="write the page from what was measured")
    given = parser.parse_args()
    if given.part is not None:
        work(*given.part, given.jobs, given.only, given.opt)
        return 0
    if not given.page:
        cores = sorted(os.sched_getaffinity(0))
        command = [
            sys.executable,
            "-m",
            "tests.mutants",
            "--jobs",
            str(given.jobs),
            "--only",
            given.only,
            "--opt",
            given.opt,
        ]
        processes = [
            subprocess.Popen([*command, "--part", str(cores[i % len(cores)]), str(i)], cwd=ROOT)
            for i in range(given.jobs)
        ]
        if any([process.wait() for process in processes]):
            return 1
    from tests.mutants.page import write

    write(DOC, kept(), digest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
