"""`optbench claims` on a terminal: what is stored, what is measured, the table or the details."""

from __future__ import annotations

import shlex
import sys
import textwrap
import time
from collections.abc import Sequence

from optbench.claims import Measurement, Verdict, select
from optbench.claims.session import Inquiry
from optbench.claims.text import WIDTH, details, judged, table

FEW = 3
"""Up to so many claims are shown in full."""


def claims_in_terminal(
    names: Sequence[str] | None, results: str, again: bool, strict: bool, jobs: int | None, timeout: float
) -> int:
    """Measure what is asked for and not stored, and print it; 1 with `strict` if a measurement failed."""
    begun = time.monotonic()
    asked = select(names)
    inquiry = Inquiry(asked, results, jobs, again, timeout)
    say_plan(inquiry)
    try:
        measure(inquiry, begun)
    except KeyboardInterrupt:
        print("\nInterrupted. What was measured is stored; the same command goes on from there.", flush=True)
        return 130
    for name, why in inquiry.ledger.passed_over.items():
        print(f"passed over {name} in {inquiry.ledger.folder}: {why}", file=sys.stderr)
    in_full = names is not None and len(asked) <= FEW
    print("\n" + "\n\n".join(details(inquiry, one) for one in asked) if in_full else "\n" + table(inquiry))
    close(inquiry, time.monotonic() - begun, in_full)
    return 1 if strict and inquiry.failures else 0


def say_plan(inquiry: Inquiry) -> None:
    """One line: how much is stored, how much there is to do."""
    total, missing = len(inquiry.measurements), len(inquiry.missing)
    said = f"optbench: {len(inquiry.asked)} claim{'s' * (len(inquiry.asked) > 1)}"
    if not missing:
        print(
            f"{said}; all {total} measurements are stored in {inquiry.ledger.folder} (--again measures anew)."
        )
        return
    workers = f"{inquiry.jobs} worker{'s' * (inquiry.jobs > 1)}"
    print(f"{said}; {total - missing} measurements stored, {missing} to do on {workers}.", flush=True)


def measure(inquiry: Inquiry, begun: float) -> None:
    """A line for each thing that ends."""
    for what, reason in inquiry.measure():
        if isinstance(what, Measurement):
            name = inquiry.serves(what)
        else:
            cell = what.cells[0]
            name = f"{cell.task.label()} / {cell.optimizer.label()}, {len(what.cells)} lanes"
        text = f"failed: {reason}: {name}" if reason else name
        text = textwrap.shorten(text, WIDTH - 10, placeholder=" ...")
        print(f"{time.monotonic() - begun:6.1f} s  {text}", flush=True)


def close(inquiry: Inquiry, seconds: float, in_full: bool) -> None:
    """Where the numbers are, and what to type next."""
    results = inquiry.results
    where = "" if results == "results" else f" --results {shlex.quote(results)}"
    stored = sum(m.id in inquiry.records for m in inquiry.measurements)
    print(
        f"{stored} of {len(inquiry.measurements)} measurements are in {inquiry.ledger.folder} ({seconds:.1f} s)."
    )
    odd = (a.name for a in inquiry.asked if (r := judged(inquiry, a)) and r.verdict != Verdict.HOLDS)
    example = next(odd, inquiry.asked[0].name)
    print("Next: " + (f"optbench claims{where}" if in_full else f"optbench claims {example}{where}"))
