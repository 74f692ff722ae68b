"""Layer 1: has an optimizer silently got worse? A small suite in float32 against committed numbers.

For each (task, optimizer, learning rate) the median over seeds of the final loss is compared, on a log10
scale, with the baseline. A difference above the tolerance fails. On one machine the same code gives the same
bits, so the tolerance only has to cover how other machines round. That is measured where the baselines are
written: the suite runs again in both modes of lanes and with parameters moved by one rounding at every step, and
each number's tolerance is three times the largest difference, or the least one. Of a loss that rounding alone moves
by a decade only divergence is noticed.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from optbench import catalogue, environment
from optbench.execute.order import Order
from optbench.execute.request import Request
from optbench.execute.session import Session
from optbench.fields import UserError
from optbench.gate import output
from optbench.gate.fingerprint import Difference, write_lines
from optbench.stats.curves import middle
from optbench.stats.outcomes import final, steps_to
from optbench.stats.settings import question_of
from optbench.wording import digits_apart
from optbench.wording import number as short

TOLERANCE_LOSS = 0.05
"""Decades by which a final loss may differ, at the least."""
TOLERANCE_STEPS = 0.05
"""Fraction by which the steps to a target may differ, at the least; and at least 2 steps."""
SPREADS = 3.0
"""How many times the measured spread may be used up."""
CHAOS, ANYTHING = 1.0, 99.0
"""The spread in decades from which a finite loss is not compared, and the tolerance that says so."""
TWINS = 4
"""How many times the suite runs with other roundings where baselines are written, beside both modes of lanes."""
FLOOR = 1e-7
"""Losses below this are rounding noise in float32 and count as equal to it."""
KEY = ("task", "optimizer", "trial")
FAILED = Difference("trajectory", "", "jax", "", "a program failed")


class Number(NamedTuple):
    """Median final loss and median steps to the last target, and by how much they may differ."""

    loss: float
    steps: float
    loss_tolerance: float = TOLERANCE_LOSS
    steps_tolerance: float = 2.0


Numbers = dict[tuple[str, str, str], Number]


def check_suite(
    suite: str, baselines: str | None, update: bool, jobs: int | None, opt: Sequence[str] | None = None
) -> list[Difference]:
    """Run the suite, compare or rewrite; what moved. Of named optimizers, those are compared that have numbers."""
    path = Path(baselines or f"results/baselines/{suite}.tsv")
    stored = read(path) if path.is_file() and (opt or not update) else {}
    if opt and not update and path.is_file():
        known = {key[1] for key in stored}
        opt = [text for text in opt if catalogue.optimizer(text).label() in known]
        if not opt:
            return []
    request = Request(suite=suite, jobs=jobs, opt=tuple(opt) if opt else None)
    request.resolve()  # an invalid request is an error before anything runs
    if not update and not path.is_file():
        raise UserError(output.absent(path, suite=suite, baselines=baselines))
    names = {catalogue.optimizer(text).label() for text in opt or ()}
    old = {key: number for key, number in stored.items() if not names or key[1] in names}
    kept = {key: number for key, number in stored.items() if key not in old}
    numbers = run(request)
    if numbers is None:
        return [FAILED]
    if not update:
        moved = compare(old, numbers)
        same = len(old) - sum(each.sentence != "not in the baselines" for each in moved)
        print(f"{same} of {len(old)} numbers as in {path}" + ("" if not moved else f"; {len(moved)} moved"))
        return moved
    others = [run(dataclasses.replace(request, lanes=lanes)) for lanes in ("map", "vmap")]
    others += [run(request, twin) for twin in range(1, TWINS + 1)]
    if None in others:
        return [FAILED]
    numbers = kept | tolerant(numbers, list(filter(None, others)))
    write(path, suite, numbers)
    print(f"wrote {len(numbers)} numbers to {path}")
    return []


def run(request: Request, twin: int | None = None) -> Numbers | None:
    """The numbers of a suite, run into a folder that is thrown away; None if a program failed."""
    with tempfile.TemporaryDirectory() as folder:
        order = Order.of(dataclasses.replace(request, results=folder))
        session = Session(order.only(tuple(dataclasses.replace(cell, twin=twin) for cell in order.cells)))
        failures = [event for event in session.run() if event.kind == "failed"]
        for event in failures:
            print(f"failed: {event.facts['status']}: {event.facts['reason']}", file=sys.stderr)
        return None if failures else measure(session)


def tolerant(numbers: Numbers, others: Sequence[Numbers]) -> Numbers:
    """The numbers with tolerances from how far other ways of rounding the same cells are from the first."""
    found = {}
    for key, number in numbers.items():
        spread = max(apart(number.loss, other[key].loss) for other in others)
        steps = [abs(number.steps - each) for other in others if (each := other[key].steps) != number.steps]
        found[key] = number._replace(
            loss_tolerance=max(TOLERANCE_LOSS, SPREADS * spread if spread < CHAOS else ANYTHING),
            steps_tolerance=max(least_steps(number.steps), SPREADS * max(steps, default=0.0)),
        )
    return found


def least_steps(steps: float) -> float:
    """By how many steps a count may always differ."""
    return max(2.0, TOLERANCE_STEPS * steps) if math.isfinite(steps) else 2.0


def measure(session: Session) -> Numbers:
    """Median final loss and median steps to the last target, by (task, optimizer, trial)."""
    numbers: Numbers = {}
    for (task, optimizer, trial), rows in session.frame().groupby([*KEY], dropna=False):
        question = question_of(rows)
        loss = middle(final(rows, question.selection))
        steps = middle(steps_to(rows, question.last.metric, question.last.value))
        key = (str(task), str(optimizer), f"{trial:g}")
        numbers[key] = Number(loss, steps, steps_tolerance=least_steps(steps))
    return numbers


def write(path: Path, suite: str, numbers: Mapping[tuple[str, str, str], Number]) -> None:
    heads = [
        f"optbench check --suite {suite} --update",
        environment.provenance("jax", "optax", "numpy"),
        f"tolerances: decades of loss (losses below {FLOOR} are equal) and steps, {SPREADS:g} times the largest",
        f"difference to both modes of lanes and to {TWINS} runs whose parameters are moved by one rounding a step",
    ]
    shown = [
        (*key, f"{number.loss:.6g}", *(f"{value:.4g}" for value in number[1:]))
        for key, number in sorted(numbers.items())
    ]
    write_lines(path, heads, [(*KEY, *Number._fields), *shown])


def read(path: Path) -> Numbers:
    lines = [line for line in path.read_text(errors="replace").splitlines() if not line.startswith("#")]
    try:
        return {
            (row["task"], row["optimizer"], row["trial"]): Number(*(float(row[k]) for k in Number._fields))
            for row in csv.DictReader(lines, delimiter="\t")
        }
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        what = f"there is no column {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"baselines {str(path)!r} cannot be read: {what}. Rewrite them with --update."
        ) from error


def compare(old: Numbers, new: Numbers) -> list[Difference]:
    moved = []
    for key in sorted(old.keys() | new.keys()):
        if (sentence := movement(old.get(key), new.get(key))) is not None:
            task, optimizer, trial = key
            moved.append(Difference("trajectory", optimizer, "jax", f"{task} {trial}", sentence))
    return moved


def movement(old: Number | None, new: Number | None) -> str | None:
    """A sentence, if a number moved by more than it may."""
    if old is None or new is None:
        return "not run any more" if old else "not in the baselines"
    if apart(old.loss, new.loss) > old.loss_tolerance:
        word = "worse" if new.loss > old.loss or math.isnan(new.loss) else "better"
        digits = digits_apart((old.loss, new.loss), 4)
        both = " -> ".join(short(each, digits, "failed") for each in (old.loss, new.loss))
        return f"loss {both} ({word})"
    if old.steps != new.steps and abs(old.steps - new.steps) > old.steps_tolerance:
        word = "worse" if new.steps > old.steps else "better"
        return f"steps to target {old.steps:g} -> {new.steps:g} ({word})"
    return None


def apart(old: float, new: float) -> float:
    """Decades between two losses."""
    if not (math.isfinite(old) and math.isfinite(new)):
        return 0.0 if old == new else math.inf
    return abs(math.log10(max(old, FLOOR)) - math.log10(max(new, FLOOR)))
