"""The commands that reproduce a report's rows, and the environment of the rows."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pandas as pd

from optbench.cell import PRECISIONS, Schedule
from optbench.record import IMPORTED, typed
from optbench.report import resolve
from optbench.stats import Frame
from optbench.stats.settings import PROBLEM, question_of
from optbench.suite import Suite, several
from optbench.tuning import BLOCK
from optbench.wording import command_line

BUNDLED = ("digits", "pydoc")
"""The data sets that need no folder."""
SUITES_OWN = ("framework", "dtype", "precision")
"""What a suite says of every cell."""


def rates_text(rates: Iterable[float]) -> str:
    return ",".join(f"{rate:g}" for rate in sorted(rates))


class Run(NamedTuple):
    """What computes rows of one optimizer on one problem."""

    options: tuple[tuple[str, Any], ...]
    task: str
    optimizer: str
    file: str = ""
    """What they were imported from."""


def runs(rows: Frame, suite: Suite, name: str, ruleset: Mapping[str, Any]) -> list[Run]:
    """The same; `ruleset`: how trials are drawn, as far as the suite of this name does not say so itself."""
    spec, found = json.loads(rows["spec"].iloc[0]), []
    task, text = (typed(spec[kind], rows[kind].iloc[0], name) for kind in ("task", "optimizer"))
    for mode, own in rows.groupby("mode", sort=False):
        if mode == IMPORTED:
            found += [Run((), task, text, file) for file in own[IMPORTED].dropna().unique()]
        else:
            each = options_of(own, suite, text, ruleset)
            found += [Run(tuple(sorted(options.items())), task, text) for options in each]
    return found


def commands(found: Iterable[Run], name: str, results: str) -> list[str]:
    """The commands for what computes rows, as few as tasks, optimizers, rates and settings allow."""
    files: dict[str, None] = {}
    optimizers: dict[tuple, dict[str, list[str]]] = {}
    for run in found:
        if run.file:
            files[run.file] = None
        else:
            optimizers.setdefault(run.options, {}).setdefault(run.task, []).append(run.optimizer)
    tasks: dict[tuple, list[str]] = {}
    for options, by_task in optimizers.items():
        for task, names in by_task.items():
            tasks.setdefault((options, tuple(names)), []).append(task)
    return [
        *(command_line(shlex.join(["import", *file.split(" ", 1)]), results=results) for file in files),
        *(command_line("run", suite=name, task=each, opt=names, **dict(options), results=results)
          for (options, names), each in tasks.items()),
    ]  # fmt: skip


def options_of(
    rows: Frame, suite: Suite, optimizer: str, ruleset: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The options that reproduce one optimizer's rows on one problem; two runs if rates outside the grid were added."""
    spec, question = json.loads(rows["spec"].iloc[0]), question_of(rows)
    schedule, steps = Schedule(**spec["schedule"]), spec["steps"]
    seeds = int((rows["seed"] % BLOCK).max()) + 1
    task, kind, lanes = (str(rows[name].iloc[0]) for name in ("task", "device_kind", "mode"))
    platform = "cpu" if kind == "cpu" else "tpu" if "tpu" in kind.lower() else "gpu"
    setting = {"precision": PRECISIONS[0], **spec}
    options = {
        "seeds": seeds if question.seeded and seeds != suite.seeds else None,
        "steps": None if steps in suite.horizons(task, question.horizon) else steps,
        "schedule": None if schedule in several(suite.schedule) else schedule.label(),
        **{name: setting[name] if setting[name] != getattr(suite, name) else None for name in SUITES_OWN},
        "device": None if platform == "cpu" else platform,
        "data": "DIR" if spec["task"].get("dataset", BUNDLED[0]) not in BUNDLED else None,
        "lanes": lanes if lanes != (resolve.planned_lanes(spec, platform) or lanes) else None,
    }
    options = {name: value for name, value in options.items() if value is not None}
    if "stage" in rows:
        return [{**options, **(ruleset or {}), **fewer_trials(rows, suite, optimizer)}]
    rates, grid = set(rows["trial"].dropna()), resolve.equal_grid(optimizer, suite.trials)
    if not rates >= grid:  # fewer than the grid would be
        return [{**options, "lr": rates_text(rates)}]
    found = [options] if grid or not rates else []
    return found + ([{**options, "lr": rates_text(rates - grid)}] if rates - grid else [])


def fewer_trials(rows: Frame, suite: Suite, optimizer: str) -> dict[str, int]:
    """How many trials an optimizer has in stages on one problem, if the suite has more."""
    if "stage" not in rows or (found := resolve.optimizer(optimizer)) is None:
        return {}
    ran = rows.loc[rows["stage"] == "tuning", "hyperparameters"].nunique()
    return {"trials": ran} if 0 < ran < len(suite.trials_of(found, toy=question_of(rows).toy)) else {}


def typed_names(frame: Frame, suite: str) -> dict[str, str]:
    found: dict[str, str] = {}
    shown = frame[["task", "optimizer", "spec"]].drop_duplicates(["task", "optimizer"])
    for row in shown.to_dict("records"):
        spec = json.loads(row["spec"])
        found |= {row[kind]: typed(spec[kind], row[kind], suite) for kind in ("task", "optimizer")}
    return found


def environment(frame: Frame) -> dict[str, str]:
    """Code, packages and machine of the rows, each with all its values."""
    versions = [str(name) for name in frame if str(name).startswith("version.")]
    packages = [f"{name[8:]} {text}" for name in versions if (text := values(frame, name))]
    modes = frame["mode"].value_counts().sort_index()
    times = pd.to_numeric(frame["created"])
    facts = {
        "code": f"optbench {values(frame, 'optbench_version')}, commit {values(frame, 'commit') or 'unknown'}",
        "packages": ", ".join([f"python {values(frame, 'python')}", *packages]),
        "machine": f"{values(frame, 'cpu_model')}; {values(frame, 'platform')}",
        "device": f"{values(frame, 'device_kind')}; threads in each worker: {values(frame, 'threads')}",
        "lanes": ", ".join(f"{mode} {count:,}" for mode, count in modes.items()),
        "dates": " to ".join(dict.fromkeys((day(times.min()), day(times.max())))),
    }
    if (frame["mode"] == IMPORTED).all():  # nothing else is known
        return {"device": values(frame, "device_kind"), **{name: facts[name] for name in ("lanes", "dates")}}
    if "program_seconds" in frame and frame["program_seconds"].notna().any():
        facts["seconds"] = seconds(frame[frame["program_seconds"].notna()])
    return facts


def seconds(ran: Frame) -> str:
    """Total times; all lanes of a program carry its seconds, and all its groups of lanes one compilation."""
    key = [*PROBLEM, "optimizer", "mode", "compile_seconds"]
    programs, groups = ran.drop_duplicates(key), ran.drop_duplicates([*key, "program_seconds"])
    return (
        f"{programs['compile_seconds'].sum():.1f} compiling, {groups['program_seconds'].sum():.1f} stepping, "
        f"{groups['evaluation_seconds'].sum():.1f} evaluating, in {len(programs)} programs"
    )


def values(frame: Frame, name: str) -> str:
    """The different values of a column, most frequent first."""
    if name not in frame:
        return ""
    counts = frame[name].dropna().astype(str).value_counts(sort=False)
    found = [text for text, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if text]
    return " and ".join(text.removesuffix(".0") if name == "threads" else text for text in found)


def day(seconds: float) -> str:
    return datetime.fromtimestamp(float(seconds), UTC).strftime("%Y-%m-%d %H:%M UTC")
