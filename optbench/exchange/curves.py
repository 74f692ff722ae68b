"""A tidy table of curves to rows, and rows to such a table: a line for each run, metric and step (docs/import.md)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from optbench.cell import FINISHED, Status
from optbench.exchange.sheet import SETTING, Sheet
from optbench.fields import UserError
from optbench.record import Question
from optbench.stats import Frame
from optbench.task import Target
from optbench.wording import inert

STEPWISE = "losses"
"""The metric of the loss before each step, from step 0 on."""
STAGES = ("tuning", "report", "default")
NUMBERS = {
    "learning_rate": "trial", "default_learning_rate": "trial_default", "gradient_equivalents": "gradient_equivalents",
    "state_floats_per_parameter": "state_floats_per_parameter", "seconds_per_step": "seconds_per_step",
}  # fmt: skip
"""Columns of numbers that belong to a run, by their names in rows."""
RISING = "accuracy"
"""In the name of a metric of which more is better."""


def rows(sheet: Sheet, metric: str | None = None) -> list[dict[str, Any]]:
    """A row for each run; `metric` chooses and is reported where the file has several and no question."""
    lines = Lines(sheet)
    questions = asked(lines, metric)
    return [run(lines, questions, places) for places in lines.groups(lines.run)]


class Lines:
    """The checked columns of a file, and which problem and which run each line belongs to."""

    def __init__(self, sheet: Sheet):
        alone = "loss" in sheet and "metric" not in sheet
        sheet.needs("task", "optimizer", "seed", "step", *([] if alone else ["metric", "value"]))
        names = {name: sheet.names(name, SETTING.get(name)) for name in ("task", "optimizer", *SETTING)}
        names |= {name: sheet.names(name, "") for name in ("stage", "status", "hyperparameters", "base")}
        names["metric"] = ["loss"] * len(sheet) if alone else sheet.names("metric")
        for name, allowed in {"stage": STAGES, "status": tuple(Status)}.items():
            for place, text in enumerate(names[name]):
                if text not in ("", *allowed):
                    raise sheet.fail(place, name, f"is not one of {', '.join(allowed)}.")
        lost = [text not in ("", *FINISHED) for text in names["status"]]
        numbers = {name: sheet.numbers(name, least=0, whole=True) for name in ("seed", "step")}
        numbers |= {name: sheet.numbers(name, default=math.nan, least=0) for name in (*NUMBERS, "seconds")}
        numbers["steps"] = sheet.numbers("steps", default=math.nan, least=1, whole=True)
        numbers["target"] = sheet.numbers("target", default=math.nan)
        numbers["value"] = sheet.numbers(
            "loss" if alone else "value", allowed=lambda place, _: lost[place],
            otherwise=" Where a run diverged, say so in a column status.",
        )  # fmt: skip
        self.sheet, self.names, self.numbers = sheet, names, numbers
        self.problem = numbered(*(names[name] for name in ("task", *SETTING)))
        rates = numbers["learning_rate"].astype(str)
        self.run = numbered(self.problem, names["optimizer"], numbers["seed"], names["stage"], rates)
        for name in ("steps", "target"):
            sheet.same(numbers[name], self.problem, name, "task")
        sheet.same(names["base"], self.problem, "base", "task")
        for name in (*NUMBERS, "status", "hyperparameters"):
            sheet.same({**numbers, **names}[name], self.run, name, "run")
        self.last = np.zeros(self.problem.max() + 1)
        np.maximum.at(self.last, self.problem, numbers["step"])

    def groups(self, of: np.ndarray) -> list[np.ndarray]:
        """The lines of each run, or of each problem."""
        order = np.argsort(of, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(of[order])) + 1)

    def steps(self, place: int) -> int:
        """The budget of the problem of a line: given, or its last step."""
        given = self.numbers["steps"][place]
        return max(1, int(self.last[self.problem[place]] if given != given else given))

    def curves(self, places: np.ndarray) -> dict[str, dict[int, int]]:
        """The line of each metric and step of a run."""
        found: dict[str, dict[int, int]] = {}
        for place in places.tolist():
            own, step = found.setdefault(self.names["metric"][place], {}), int(self.numbers["step"][place])
            if step in own:
                raise self.sheet.fail(place, "step", "is there twice for a metric of one run. Keep one.")
            own[step] = place
        return found


def numbered(*columns: Sequence[Any] | np.ndarray) -> np.ndarray:
    """The different tuples of some columns, numbered in their order: the number of each row's."""
    known: dict[tuple, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in zip(*columns, strict=True)])


def run(lines: Lines, questions: Mapping[int, Question], places: np.ndarray) -> dict[str, Any]:
    sheet, numbers, first = lines.sheet, lines.numbers, int(places[0])
    question, steps, own = questions[int(lines.problem[first])], lines.steps(first), lines.curves(places)
    if (past := numbers["step"][places] > steps).any():
        raise sheet.fail(int(places[past][0]), "step", f"is past the {steps} steps of the run.")
    losses = own.pop(STEPWISE, {})
    if sorted(losses) != list(range(len(losses))):
        raise sheet.fail(first, "metric", f"{STEPWISE} must have every step from 0.")
    status = lines.names["status"][first] or str(Status.DONE)
    deciding = list(own.get(question.selection, {}).values())
    # A run that failed before its first value has none.
    never = status not in FINISHED and not np.isfinite(numbers["value"][deciding]).any()
    grid = [] if never else decided(sheet, own, question, first)
    evaluations = {
        name: [numbers["value"][found[step]] if step in found else math.nan for step in grid]
        for name, found in own.items()
    }
    columns = {
        key: float(numbers[name][first]) for name, key in NUMBERS.items() if np.isfinite(numbers[name][first])
    }
    columns |= {"task.base": base} if (base := lines.names["base"][first]) else {}
    seconds = numbers["seconds"][[own[question.selection][step] for step in grid]]
    if len(grid) and np.isfinite(seconds).all():
        if (back := np.diff(seconds) < 0).any():
            place = own[question.selection][grid[back.argmax() + 1]]
            raise sheet.fail(place, "seconds", "is less than at an earlier step.")
        evaluations["seconds"] = seconds.tolist()
        if seconds[-1] > 0 and grid[-1]:
            columns.setdefault("seconds_per_step", float(seconds[-1]) / grid[-1])
    return sheet.row(
        {name: lines.names[name][first] for name in ("task", "optimizer", *SETTING)}, question, grid, evaluations,
        seed=int(numbers["seed"][first]), steps=steps, status=status, stage=lines.names["stage"][first] or None,
        losses=[numbers["value"][losses[step]] for step in sorted(losses)],
        hyperparameters=lines.names["hyperparameters"][first], columns=columns,
    )  # fmt: skip


def asked(lines: Lines, metric: str | None) -> dict[int, Question]:
    """The question of each problem: the file's own, or that its metric falls, to its target if there is one."""
    sheet, found = lines.sheet, {}
    texts = sheet.columns.get("question", [""] * len(sheet))
    for places in lines.groups(lines.problem):
        first = int(places[0])
        given = next((int(place) for place in places if texts[place]), None)
        if given is not None:
            found[int(lines.problem[first])] = question_of(sheet, given, texts[given])
            continue
        metrics = dict.fromkeys(lines.names["metric"][place] for place in places)
        names = [name for name in metrics if name != STEPWISE]
        if len(names) > 1 and metric is None:
            raise UserError(
                f"{sheet.name!r} has metrics {', '.join(names[:5])}. Say which one decides, less being better: "
                f"--metric {names[0]}"
            )
        chosen = metric or (names or [STEPWISE])[0]
        if chosen not in names:
            raise sheet.fail(first, "task", f"has no values of metric {chosen!r}.")
        if RISING in chosen:
            why = f"is judged by {chosen!r}, and less must be better: give the error."
            raise sheet.fail(first, "task", why)
        goal, steps = float(lines.numbers["target"][first]), lines.steps(first)
        targets = () if goal != goal else (Target(chosen, goal),)
        found[int(lines.problem[first])] = sheet.question(chosen, steps, *targets)
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
            why = f"has no {name} at some of the steps of {question.selection}."
            raise sheet.fail(first, "optimizer", why)
    return sorted(own[question.selection])


def table(frame: Frame) -> Frame:
    """The tidy table of some rows, from which `rows` makes rows of the same statistics."""
    same = ("task", "optimizer", *SETTING, "steps", "seed", "stage", "hyperparameters", "status")
    names = (
        {name: key for key, name in NUMBERS.items()} | {name: name for name in same} | {"task.base": "base"}
    )
    parts = [(place, *part) for place, each in enumerate(frame.to_dict("records")) for part in lines(each)]
    own, metrics, steps, values, seconds = zip(*parts, strict=True)
    counts = [*map(len, steps)]
    places = np.repeat(own, counts)
    fixed = frame[[name for name in names if name in frame]].rename(columns=names).map(inert).iloc[places]
    first = np.append(True, np.diff(places) > 0)
    tidy = fixed.assign(
        question=np.where(first, frame["question"].to_numpy()[places], ""),
        metric=np.repeat([*map(inert, metrics)], counts),
        step=np.concatenate(steps), value=np.concatenate(values), seconds=np.concatenate(seconds),
    )  # fmt: skip
    tidy["value"] = tidy["value"].astype(object).where(tidy["value"].notna(), "nan")
    return tidy


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
