"""A tidy table of curves to rows, and rows to such a table: a line for each run, metric and step (docs/import.md)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from optbench.cell import Status
from optbench.exchange.rows import SETTING, row
from optbench.exchange.sheet import FORMULA, Sheet
from optbench.fields import UserError
from optbench.record import Question
from optbench.stats import Frame
from optbench.task import Target

STEPWISE = "losses"
"""The metric of the loss before each step, from step 0 on."""
STAGES = ("tuning", "report", "default")
NUMBERS = {
    "learning_rate": "trial", "default_learning_rate": "trial_default", "gradient_equivalents": "gradient_equivalents",
    "state_floats_per_parameter": "state_floats_per_parameter",
}  # fmt: skip
"""Columns of numbers that belong to a run, by their names in rows."""
ESTIMATED = "accuracy"
"""In the name of a metric of which more is better."""


def rows(sheet: Sheet, metric: str | None = None) -> list[dict[str, Any]]:
    """A row for each run; `metric` chooses and is reported where the file has several and no question."""
    alone = "loss" in sheet and "metric" not in sheet
    sheet.needs("task", "optimizer", "seed", "step", *([] if alone else ["metric", "value"]))
    keys = {name: sheet.names(name, SETTING.get(name)) for name in ("task", "optimizer", *SETTING)}
    stages, states = (sheet.names(name, "") for name in ("stage", "status"))
    for place, (stage, state) in enumerate(zip(stages, states, strict=True)):
        if stage not in ("", *STAGES):
            raise sheet.fail(place, "stage", f"is not one of {', '.join(STAGES)}.")
        if state not in ("", *Status):
            raise sheet.fail(place, "status", f"is not one of {', '.join(Status)}.")
    seeds, at = (sheet.numbers(name, least=0, whole=True).astype(int) for name in ("seed", "step"))
    metrics = ["loss"] * len(sheet) if alone else sheet.names("metric")
    lost = [state not in ("", *(each for each in Status if each.finished)) for state in states]
    values = sheet.numbers("loss" if alone else "value", allowed=lambda place, _: lost[place])
    numbers = {name: sheet.numbers(name, default=math.nan, least=0) for name in NUMBERS}
    clock = sheet.numbers("seconds", default=math.nan, least=0)

    # A run, and the problem that it belongs to, by the texts that tell them from others.
    problems, setting = numbered(*(keys[name] for name in ("task", *SETTING)))
    _, runs = numbered(setting, keys["optimizer"], seeds, stages, numbers["learning_rate"].astype(str))
    budgets = sheet.constant(sheet.numbers("steps", default=math.nan, least=1, whole=True), setting, "steps")
    longest = {group: max(1, int(at[setting == group].max())) for group in range(len(problems))}
    steps = {
        group: longest[group] if budgets[group] != budgets[group] else int(budgets[group])
        for group in longest
    }
    questions = asked(sheet, metric, metrics, setting, steps)

    series: dict[int, dict[str, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for place, (run, name, step) in enumerate(zip(runs.tolist(), metrics, at.tolist(), strict=True)):
        if step in series[run][name]:
            raise sheet.fail(place, "step", f"is there twice for {name} of one run. Keep one.")
        series[run][name][step] = place
        if step > steps[setting[place]]:
            raise sheet.fail(place, "step", f"is past the {steps[setting[place]]} steps of the run.")
    fixed = {name: sheet.constant(column, runs, name) for name, column in numbers.items()}
    fixed["status"] = sheet.constant(states, runs, "status")
    fixed["hyperparameters"] = sheet.constant(sheet.names("hyperparameters", ""), runs, "hyperparameters")
    made = []
    for run, own in series.items():
        first = next(iter(next(iter(own.values())).values()))
        question = questions[setting[first]]
        known = np.isfinite(values[list(own.get(question.selection, {}).values())]).any()
        # A run that failed before its first value has none.
        grid = decided(sheet, own, question, first) if known or not lost[first] else []
        losses = own.pop(STEPWISE, {})
        if sorted(losses) != list(range(len(losses))):
            raise sheet.fail(first, "metric", f"{STEPWISE} must have every step from 0.")
        evaluations = {
            name: [values[found[step]] if step in found else math.nan for step in grid]
            for name, found in own.items()
        }
        columns: dict[str, Any] = {
            NUMBERS[name]: float(fixed[name][run]) for name in NUMBERS if fixed[name][run] == fixed[name][run]
        }
        seconds = np.array([clock[own[question.selection][step]] for step in grid])
        if len(seconds) and np.isfinite(seconds).all():
            if (np.diff(seconds) < 0).any():
                place = own[question.selection][grid[int(np.argmax(np.diff(seconds) < 0)) + 1]]
                raise sheet.fail(place, "seconds", "is less than at an earlier step.")
            evaluations["seconds"] = seconds.tolist()
            columns["seconds_per_step"] = seconds[-1] / max(1, grid[-1])
        text = fixed["hyperparameters"][run]
        given = dict(part.partition("=")[::2] for part in text.split(", ") if part)
        rate = {"learning_rate": columns["trial"]} if "trial" in columns else {}
        made.append(row(
            sheet, {name: column[first] for name, column in keys.items()}, question, grid, evaluations,
            seed=int(seeds[first]), steps=steps[setting[first]], stage=stages[first] or None,
            status=fixed["status"][run] or Status.DONE, losses=[values[losses[step]] for step in sorted(losses)],
            hyperparameters=rate | given, text=text, **columns,
        ))  # fmt: skip
    return made


def numbered(*columns: Any) -> tuple[dict[tuple, int], np.ndarray]:
    """The different tuples of some columns, numbered in their order, and the number of each row's."""
    known: dict[tuple, int] = {}
    found = [known.setdefault(key, len(known)) for key in zip(*columns, strict=True)]
    return known, np.array(found)


def asked(
    sheet: Sheet, metric: str | None, metrics: list[str], setting: np.ndarray, steps: Mapping[int, int]
) -> dict[int, Question]:
    """The question of each problem: the file's own, or that its metric falls, to its target if there is one."""
    texts = sheet.columns.get("question", [""] * len(sheet))
    targets = sheet.constant(sheet.numbers("target", default=math.nan), setting, "target")
    found = {}
    for group in steps:
        places = np.flatnonzero(setting == group)
        given = next((int(place) for place in places if texts[place]), None)
        if given is not None:
            found[group] = question_of(sheet, given, texts[given])
            continue
        names = list(dict.fromkeys(metrics[place] for place in places if metrics[place] != STEPWISE))
        chosen = metric or names[0]
        if len(names) > 1 and metric is None:
            raise UserError(
                f"{sheet.name!r} has metrics {', '.join(names[:5])}. Say which one decides, less being better: "
                f"--metric {names[0]}"
            )
        if chosen not in names:
            raise sheet.fail(int(places[0]), "task", f"has no values of metric {chosen!r}.")
        if ESTIMATED in chosen:
            raise sheet.fail(
                int(places[0]), "task", f"is judged by {chosen!r}, and less must be better: give the error."
            )
        goal = targets[group]
        found[group] = Question(
            selection=chosen, score=chosen, targets=() if goal != goal else (Target(chosen, float(goal)),),
            optimum=None, ceiling=1e10, unit="", source=sheet.name, seeded=True, toy=False, noisy=True,
            horizon=steps[group],
        )  # fmt: skip
    return found


def question_of(sheet: Sheet, place: int, text: str) -> Question:
    """A question as `export` wrote it; UserError if it is none."""
    try:
        found = Question.read(text)
        number = (int, float)
        whole = all([
            all(isinstance(each, str) and each for each in (found.selection, found.score)),
            all(isinstance(each, str) for each in (found.unit, found.source)),
            all(isinstance(each, bool) for each in (found.seeded, found.toy, found.noisy)),
            isinstance(found.ceiling, number), found.optimum is None or isinstance(found.optimum, number),
            isinstance(found.horizon, int), found.surface is None or found.surface.height(0.0, 0.0) is not None,
            all(isinstance(goal.metric, str) and isinstance(goal.value, number) for goal in found.targets),
        ])  # fmt: skip
    except Exception:  # JSON may hold anything
        whole = False
    if not whole:
        raise sheet.fail(place, "question", "is no question as `optbench export` writes it. Leave it empty.")
    return Question.read(text)


def decided(sheet: Sheet, own: Mapping[str, Mapping[int, int]], question: Question, first: int) -> list[int]:
    """The steps of a run at which what decides is known."""
    names = dict.fromkeys([question.selection, question.score, *(goal.metric for goal in question.targets)])
    for name in names:
        if set(own.get(name, ())) != set(own.get(question.selection, ())) or not own.get(name):
            raise sheet.fail(
                first, "optimizer", f"has no {name} at some of the steps of {question.selection}."
            )
    return sorted(own[question.selection])


def table(frame: Frame) -> Frame:
    """The tidy table of some rows, from which `rows` makes rows of the same statistics."""
    names = {name: key for key, name in NUMBERS.items()} | {
        name: name
        for name in ("task", "optimizer", *SETTING, "steps", "seed", "stage", "hyperparameters", "status")
    }
    parts: list[tuple[int, str, np.ndarray, np.ndarray, np.ndarray]] = []
    for place, each in enumerate(frame.to_dict("records")):
        parts += [(place, *part) for part in lines(each)]
    places = np.repeat([part[0] for part in parts], [len(part[2]) for part in parts])
    fixed = frame[[name for name in names if name in frame]].rename(columns=names).map(escaped).iloc[places]
    first = np.append(True, np.diff(places) > 0)
    tidy = fixed.assign(
        question=np.where(first, frame["question"].to_numpy()[places], ""),
        metric=np.repeat([escaped(part[1]) for part in parts], [len(part[2]) for part in parts]),
        **{
            name: np.concatenate([part[k] for part in parts])
            for k, name in enumerate(("step", "value", "seconds"), 2)
        },
    )
    tidy["value"] = tidy["value"].astype(object).where(tidy["value"].notna(), "nan")
    return tidy


def escaped(value: Any) -> Any:
    """A spreadsheet computes what begins like a formula; behind an apostrophe it is text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def lines(each: Mapping[Hashable, Any]) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Each metric of a row with its steps, values and seconds; of one that never ran, a value that is not a number."""
    question = Question.read(each["question"])
    at = np.asarray(each["evaluation_steps"], int)
    kept = {
        str(name)[11:]: np.asarray(values, float)
        for name, values in each.items()
        if str(name).startswith("evaluation.") and np.ndim(values) == 1
    }
    if not len(at):
        return [(question.selection, np.zeros(1, int), np.full(1, math.nan), np.full(1, math.nan))]
    pace = float(each.get("seconds_per_step", math.nan))
    clock = kept.pop("seconds", at * pace)
    found = [(name, at, values, clock) for name, values in kept.items()]
    losses = np.asarray(each["losses"], float)
    if len(losses) and (not question.noisy or each["status"] == Status.REACHED):
        steps = np.arange(len(losses))
        found.append((STEPWISE, steps, losses, steps * pace))
    return found
