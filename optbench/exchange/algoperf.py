"""AlgoPerf's time-to-target tables as rows.

A submission is an optimizer, a workload a task, a study a seed. Where a workload's name continues another's, such as
`wmt_glu_tanh` that of `wmt`, it is that one's held-out variant. Source: Dahl et al. 2023, arXiv:2306.07179, section 4;
scoring/ of mlcommons/submissions_algorithms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from optbench.cell import Status
from optbench.exchange.sheet import LARGEST, Sheet
from optbench.fields import UserError
from optbench.record import SECONDS
from optbench.task import Target

TIMES = ("time", "time_to_target", "time to target on val (s)", "score", "seconds")
"""What the column of times is called."""
FINE = 100
"""The least time has at least so many steps, of"""
FINEST = 1e-6
"""seconds or more."""


def rows(sheet: Sheet) -> list[dict[str, Any]]:
    """A row for each submission, workload and study; what is missing did not reach its target, as in AlgoPerf."""
    times = wide(sheet) if "workload" not in sheet else long(sheet)
    workloads = sorted({workload for _, workload, _ in times})
    names = sorted({name for name, _, _ in times})
    everywhere = sorted({study for _, _, study in times})
    least = min((time for time in times.values() if 0 < time < math.inf), default=FINE)
    unit = 10.0 ** -max(0, math.ceil(math.log10(FINE / max(least, FINE * FINEST))))
    made = []
    for workload in workloads:
        own = {key: time for key, time in times.items() if key[1] == workload}
        finite = [time for time in own.values() if math.isfinite(time)]
        steps = max([1, *(math.ceil(time / unit) for time in finite)])
        # To reach the target: a metric that falls from 2 to 1 there.
        question = sheet.question(
            "target", steps, Target("target", 1.0, True), unit=SECONDS * (unit == 1),
            source=f"{sheet.name}; a step is {unit:g} s",
        )  # fmt: skip
        for name in names:
            studies = {study: time for (each, _, study), time in own.items() if each == name}
            for study, time in (studies or dict.fromkeys(everywhere, math.inf)).items():
                reached = math.isfinite(time)
                end = math.ceil(time / unit) if reached else steps
                kept = 2 if end else 1  # who is there at the start has no curve
                at, target = [0, end][-kept:], [2.0, 2.0 - reached][-kept:]
                seconds = [0.0, time if reached else steps * unit][-kept:]
                made.append(sheet.row(
                    {"task": workload, "optimizer": name}, question, at, {"target": target, "seconds": seconds},
                    seed=study, steps=steps, status=Status.REACHED if reached else Status.DONE,
                    columns={"seconds_per_step": unit, "task.base": base_of(workload, workloads, sheet)},
                ))  # fmt: skip
    return made


def base_of(workload: str, workloads: Sequence[str], sheet: Sheet) -> str:
    """The base of a held-out variant; of a base workload, itself."""
    if "base" in sheet:
        given = dict(zip(map(bare, sheet.names("workload")), map(bare, sheet.names("base", "")), strict=True))
        if given[workload] and given[workload] not in workloads:
            raise UserError(
                f"{sheet.name!r}: {workload}'s base {given[workload]!r} is no workload of the file."
            )
        return given[workload] or workload
    return min((each for each in workloads if workload.startswith(f"{each}_")), key=len, default=workload)


def long(sheet: Sheet) -> dict[tuple[str, str, int], float]:
    """From the columns submission, workload, study and a time; of several trials the least counts."""
    column = next((name for name in TIMES if name in sheet), TIMES[0])
    sheet.needs("submission", "workload", column)
    names, workloads = sheet.names("submission"), [bare(each) for each in sheet.names("workload")]
    texts = sheet.names("study", "0")
    studies = {text: place for place, text in enumerate(sorted(set(texts), key=natural))}
    never = " Write inf where the target was not reached."
    times = sheet.numbers(column, least=0, allowed=lambda _, time: time == math.inf, otherwise=never)
    found: dict[tuple[str, str, int], float] = {}
    for place, (name, workload, text) in enumerate(zip(names, workloads, texts, strict=True)):
        key, time = (name, workload, studies[text]), float(times[place])
        if key in found and "trial" not in sheet:
            raise sheet.fail(place, "workload", f"has a second time of {name} in study {text}. Keep one.")
        if LARGEST < time < math.inf:
            raise sheet.fail(place, column, "is too large for a time in seconds.")
        found[key] = min(time, found.get(key, math.inf))
    return found


def wide(sheet: Sheet) -> dict[tuple[str, str, int], float]:
    """From time_to_targets.csv of AlgoPerf's scoring: a row for each submission, a column for each workload."""
    sheet.needs("submission")
    names, workloads = sheet.names("submission"), [each for each in sheet.columns if each != "submission"]
    if len(set(names)) < len(names):
        raise UserError(
            f"{sheet.name!r} has two rows of one submission. Keep one, or give a column workload."
        )
    if not workloads:
        sheet.needs("workload")
    found: dict[tuple[str, str, int], float] = {}
    for workload in workloads:
        times = sheet.numbers(workload, least=0, default=math.inf, allowed=lambda _, time: time == math.inf)
        found |= {(name, bare(workload), 0): float(time) for name, time in zip(names, times, strict=True)}
    return found


def bare(workload: str) -> str:
    """Without the framework, which AlgoPerf's logs add."""
    return re.sub(r"_(jax|pytorch)$", "", workload)


def natural(text: str) -> tuple[int, str]:
    """study_2 before study_10."""
    digits = re.search(r"\d+$", text)
    return (int(digits.group()[:15]) if digits else -1, text)
