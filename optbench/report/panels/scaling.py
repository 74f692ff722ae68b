"""Whether an advantage lasts: over the number of steps, the batch size and the width of a task."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from optbench.report.content import Content
from optbench.report.figures import WIDTH, few_ticks, legend, new_figure
from optbench.report.parts import Bullets, Part, Picture, Table, Text
from optbench.stats import Frame
from optbench.stats.scaling import Axis, Law, along, best_rates, changes, critical_batch, cube, law
from optbench.wording import count, interval, number, spoken

BASES = ("adamw", "adam")
"""What a speed-up is over: the first of these that ran, or else the first optimizer."""
FARTHEST = 0.1
"""How far the law may be off a mean over seeds for its speed-ups to say something."""


def scaling(content: Content) -> list[Part]:
    best = content.standings["steps"].best
    if best.empty:
        return []
    specs = {problem.name: str(problem.rows["spec"].iloc[0]) for problem in content.problems}
    scores = {problem.name: problem.question.score for problem in content.problems}
    parts: list[Part] = []
    for place, axis in enumerate(along(best, specs)):
        score = scores[str(axis.rows["problem"].iloc[0])]
        column, shown = ("score", spoken(score)) if score.endswith("loss") else ("training", "training loss")
        parts += [Text(f"{axis.task}: {axis.name}", "heading")]
        parts += over_steps(axis, column, shown, content, place) if axis.name == "steps" else []
        parts += over_batches(axis) if axis.name == "batch" else []
        parts += [Bullets(orders(axis, column, shown)), rates(axis)]
    return parts


def over_steps(axis: Axis, column: str, shown: str, content: Content, place: int) -> list[Part]:
    names, steps, losses = cube(axis, column)
    base = next((name for name in BASES if name in names), names[0] if names else "")
    if len(names) < 2 or losses.min() <= 0 or losses.shape[2] < 2:
        return [Text("A speed-up needs two optimizers that ran with two seeds at every number of steps.")]
    found = law(losses, steps, names.index(base))
    if found.missed > FARTHEST:
        said = f"No speed-up: the shared law c + a T^-B is up to {found.missed:.0%} off the mean {shown}."
        return [Text(said)]
    rows = [
        (
            name,
            interval(*found.speedups[i], beside=1),
            interval(*found.trends[i], beside=0),
            lasting(found, i),
        )
        for i, name in enumerate(names)
        if name != base
    ]
    note = (
        f"speed-up: how many times the steps {base} needs for the same {shown}, over all numbers of steps; doubling: "
        "what it is multiplied by when the steps double. 95 % intervals over seeds. The learning rate was tuned anew "
        f"at each number of steps. Shared law: {number(found.c)} + {number(found.a)} T^-{number(found.b)}, at "
        f"most {found.missed:.1%} off a mean; nothing is said beyond {steps[-1]:,.0f} steps."
    )
    table = Table(f"Speed-up over {base}", ("optimizer", "speed-up", "doubling", "it"), rows, 1, note)
    alt = f"{shown} of {axis.task} over steps, with the law that all optimizers share"
    drawing = functools.partial(draw, content, names, steps, losses, found, shown)
    return [table, Picture(f"scaling_{place}", alt, drawing, embedded=True, narrow=True)]


def lasting(found: Law, i: int) -> str:
    """Whether the interval of a trend excludes 1."""
    trend = found.trends[i]
    if trend.low <= 1 <= trend.high:
        return "cannot be told to grow or shrink"
    return "grows" if trend.low > 1 else "shrinks"


def over_batches(axis: Axis) -> list[Part]:
    names, batches, times = cube(axis, "time")
    if not names or times.shape[2] < 2:
        return [Text("No optimizer reached the main target in every run of every batch size.")]
    found = [critical_batch(own, batches) for own in times]
    rows = [
        (name, interval(*critical), interval(*least))
        for name, (least, critical) in zip(names, found, strict=True)
    ]
    note = (
        "Steps to the main target with batches of B examples: N (1 + B_c / B). critical: B_c, the batch at which half "
        "of the steps could be saved; least steps: N. 95 % intervals over seeds; only optimizers that reached the "
        "target in every run."
    )
    return [Table("Critical batch size", ("optimizer", "critical", "least steps"), rows, 1, note)]


def orders(axis: Axis, column: str, shown: str) -> list[str]:
    """Each change of order between neighbours on the axis, and its probability."""
    found = sorted(changes(axis, column), key=lambda change: -change.chance)
    if not found:
        return [f"No two optimizers change their order in {shown} along the {axis.name}."]
    lines = [
        f"{each.ahead} is ahead of {each.other} at {each.places[0]:,.0f} and behind at {each.places[1]:,.0f} "
        f"(probability of a change {each.chance:.0%})."
        for each in found
        if each.chance > 0.5
    ]
    if rest := len(found) - len(lines):
        lines.append(f"{count(rest, 'further change')} of order, each more likely to be chance than not.")
    return lines


def rates(axis: Axis) -> Table:
    table: Frame = best_rates(axis)
    places = [f"{place:,.0f}" for place in table.columns]
    rows = [(str(name), *map(number, rates)) for name, *rates in table.itertuples()]
    note = f"The learning rate that was chosen, by {axis.name}."
    return Table("Best learning rate", ("optimizer", *places), rows, 1, note)


def draw(
    content: Content, names: list[str], steps: np.ndarray, losses: np.ndarray, found: Law, shown: str
) -> Figure:
    figure = new_figure(WIDTH * 0.7, 2.6)
    axes = figure.subplots()
    between = np.geomspace(steps[0], steps[-1], 60)
    for i, name in enumerate(names):
        line: dict[str, Any] = {**content.looks[name].line(), "marker": ""}
        points: dict[str, Any] = {**content.looks[name].line(), "linestyle": ""}
        axes.plot(between, found.at(between, found.speedups[i].value), **line)
        axes.plot(steps, np.exp(np.log(losses[i]).mean(axis=1)), **points)
    axes.set(xscale="log", yscale="log", xlabel="steps", ylabel=shown)
    axes.set_xticks(steps, [f"{each:,.0f}" for each in steps])
    axes.minorticks_off()
    few_ticks(axes.yaxis, *axes.get_ylim())
    legend(figure, {name: content.looks[name] for name in names}, loc="outside right upper")
    return figure
