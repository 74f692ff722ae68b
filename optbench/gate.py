"""`optbench check`: has an optimizer silently got worse? A small suite against committed numbers.

For each (task, optimizer, learning rate) the median over seeds of the final loss is compared, on a log10
scale, with the baseline. A difference above the tolerance fails. On one machine the same code gives the same
bits, so the tolerance only has to cover other machines.
"""

from __future__ import annotations

import csv
import io
import math
import sys
import tempfile
from pathlib import Path

from optbench import environment
from optbench.core import UserError
from optbench.execute.request import Request
from optbench.execute.session import Session
from optbench.stats.summary import final, middle, steps_to, task_of

TOLERANCE_LOSS = 0.05
"""Decades by which a final loss may differ."""
TOLERANCE_STEPS = 0.05
"""Fraction by which the steps to a target may differ (and at least 2)."""
FLOOR = 1e-7
"""Losses below this are rounding noise in float32 and count as equal to it."""
COLUMNS = ("task", "optimizer", "trial", "loss", "steps")


def check_suite(suite: str, baselines: str | None, update: bool, jobs: int | None) -> int:
    """Run the suite, compare or rewrite; 0 if nothing moved."""
    Request(suite=suite, jobs=jobs).cells()  # what is wrong with the request is said first
    path = Path(baselines or f"results/baselines/{suite}.tsv")
    if not update and not path.is_file():
        raise UserError(
            f"no baselines at {str(path)!r}. Write them with: optbench check --suite {suite} --update"
        )
    old = {} if update else read(path)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Request(suite=suite, results=folder, jobs=jobs))
        failures = [event for event in session.run() if event.kind == "failed"]
        for event in failures:
            print(f"failed: {event.facts['status']}: {event.facts['reason']}", file=sys.stderr)
        if failures:
            return 1
        numbers = measure(session)
    if update:
        write(path, suite, numbers)
        print(f"wrote {len(numbers)} numbers to {path}")
        return 0
    return compare(old, numbers, path)


Numbers = dict[tuple[str, str, str], tuple[float, float]]


def measure(session: Session) -> Numbers:
    """Median final loss and median steps to the last target, by (task, optimizer, trial)."""
    numbers: Numbers = {}
    for (name, optimizer, trial), rows in session.frame().groupby(
        ["task", "optimizer", "trial"], dropna=False
    ):
        task = task_of(rows)
        target = task.targets()[-1]
        loss = middle(final(rows, task.selection))
        steps = middle(steps_to(rows, target.metric, target.value))
        numbers[(str(name), str(optimizer), f"{trial:g}")] = (loss, steps)
    return numbers


def write(path: Path, suite: str, numbers: Numbers) -> None:
    """A sorted text file with its provenance on top."""
    facts = environment.facts()
    packages = ", ".join(f"{name} {facts[f'version.{name}']}" for name in ("jax", "optax", "numpy"))
    lines = [
        f"# optbench check --suite {suite} --update",
        f"# optbench {facts['optbench_version']}, {packages}, python {facts['python']}, {facts['cpu_model']}",
        f"# tolerance: {TOLERANCE_LOSS} decades of loss above {FLOOR}, {TOLERANCE_STEPS:.0%} of steps",
        "\t".join(COLUMNS),
    ]
    lines += [
        "\t".join((*key, f"{loss:.6g}", f"{steps:g}")) for key, (loss, steps) in sorted(numbers.items())
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def read(path: Path) -> Numbers:
    """The committed numbers."""
    text = "".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("#"))
    try:
        return {
            (row["task"], row["optimizer"], row["trial"]): (float(row["loss"]), float(row["steps"]))
            for row in csv.DictReader(io.StringIO(text), delimiter="\t")
        }
    except (KeyError, TypeError, ValueError) as error:
        what = f"there is no column {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"baselines {str(path)!r} cannot be read: {what}. Rewrite them with --update."
        ) from error


def compare(old: Numbers, new: Numbers, path: Path) -> int:
    """Print what moved; 1 if something did."""
    moved = []
    for key in sorted(old.keys() | new.keys()):
        name = " ".join(key)
        if key not in new or key not in old:
            moved.append(f"{name}: {'not run any more' if key not in new else 'not in the baselines'}")
            continue
        (loss, steps), (new_loss, new_steps) = old[key], new[key]
        if apart(loss, new_loss) > TOLERANCE_LOSS:
            word = "worse" if new_loss > loss or math.isnan(new_loss) else "better"
            moved.append(f"{name}: loss {loss:.4g} -> {new_loss:.4g} ({word})")
        elif not same_steps(steps, new_steps):
            word = "worse" if new_steps > steps else "better"
            moved.append(f"{name}: steps to target {steps:g} -> {new_steps:g} ({word})")
    for line in moved:
        print(f"moved: {line}")
    print(
        f"{len(old) - len(moved)} of {len(old)} numbers as in {path}"
        + ("" if not moved else f"; {len(moved)} moved")
    )
    if moved:
        print("If this is meant: optbench check --update, and a line under Results in CHANGELOG.md.")
    return 1 if moved else 0


def apart(old: float, new: float) -> float:
    """Decades between two losses."""
    if not (math.isfinite(old) and math.isfinite(new)):
        return 0.0 if old == new else math.inf
    return abs(math.log10(max(old, FLOOR)) - math.log10(max(new, FLOOR)))


def same_steps(old: float, new: float) -> bool:
    """Whether two step counts agree within the tolerance."""
    if not (math.isfinite(old) and math.isfinite(new)):
        return old == new
    return abs(old - new) <= max(2.0, TOLERANCE_STEPS * old)
