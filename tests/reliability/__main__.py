"""Every check, one table; written to docs/reliability.md.

python -m tests.reliability          all; about twenty minutes of one core
python -m tests.reliability 30       for at most so many CPU seconds of each check
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from pathlib import Path

from optbench.environment import provenance
from optbench.wording import columns
from tests.reliability import OUTCOMES, faults, files, inputs, schedules

CHECKS = {
    "n-th file call fails or kills, run in two stages": faults.faults,
    "the same around the real engine, a sample": faults.real_faults,
    "schedules of the pool: workers die, hang, answer twice": schedules.schedules,
    "result file: a bit of every byte flipped": files.flipped_bytes,
    "result file: columns missing, empty, of another type": files.spoilt_columns,
    "result file: foreign, cut, too large, no file": files.foreign_files,
    "checkpoint: bits of every byte flipped": files.flipped_carries,
    "kept texts and programs: a bit of every byte flipped": files.flipped_caches,
    "command lines": inputs.command_lines,
    "suite files": inputs.suite_files,
    "data files": inputs.data_files,
    "baselines": inputs.spoilt_texts,
}
PAGE = Path("docs/reliability.md")
HEAD = """# Reliability

What optbench does with faults and bad input, counted by `make reliability`, which writes this page; a sample of each
row runs with the tests. Refused: one sentence names what is wrong, and the rest goes on. Survived: the result is that
without the fault, to the bit. Lost: something finished is gone, or was computed twice. Wrong: a traceback, a number
that nobody computed, code from data, or no end.

"""


def main(most: float) -> int:
    lines: list[tuple[str, ...]] = [("", "tried", *OUTCOMES)]
    bad: list[str] = []
    for name, check in CHECKS.items():
        begun, counts = time.process_time(), Counter()
        for outcome, case in check():
            counts[outcome] += 1
            if outcome in ("lost", "wrong"):
                bad.append(f"{name}: {case}: {outcome}")
            if time.process_time() - begun > most:
                break
        lines.append((name, str(counts.total()), *(str(counts[outcome]) for outcome in OUTCOMES)))
        print(
            f"{name}: {dict(counts)}, {time.process_time() - begun:.0f} s of CPU", file=sys.stderr, flush=True
        )
    print(columns(lines))
    rows = [lines[0], ("---", *["---:"] * (len(OUTCOMES) + 1)), *lines[1:]]
    table = "\n".join(f"| {' | '.join(line)} |" for line in rows)
    listed = "".join(f"- {each}\n" for each in bad)
    made = f"Made by {provenance('jax', 'numpy', 'pyarrow')}."
    part = "" if math.isinf(most) else f" Each row was stopped after {most:g} seconds of a core."
    PAGE.write_text(f"{HEAD}{table}\n\n{made}{part}\n{listed and chr(10)}{listed}")
    print(*bad, sep="\n", file=sys.stderr)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else math.inf))
