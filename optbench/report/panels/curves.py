"""Training curves, final values by learning rate, and what tuning gains: a chart for each problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from optbench.report.content import Content
from optbench.report.figures import WIDTH, draw_progress, draw_rates, legend, new_figure, signs, wrapped
from optbench.report.markdown import slug
from optbench.report.parts import Chart, Charts, Details, Part, Picture, Table
from optbench.report.problem import Problem, lost
from optbench.stats.settings import SETTING, sentence
from optbench.stats.tunability import untuned
from optbench.wording import digits_apart, number, spoken, value

PARTS = 4
"""A curve's numbers are given at its start, its end, and in as many equal parts."""


def curves(content: Content) -> list[Part]:
    drawn = [chart for each in content.charts for chart in each["training"]["progress"]]
    lines = [line for chart in drawn for line in chart["lines"]]
    each = "; enlarged, it shows each seed" * any(line.get("seeds") for line in lines)
    others = any(line.get("others") for line in lines)
    each += ", and of a single optimizer its other learning rates, dashed" * others
    note = (
        "Median over seeds at each optimizer's best learning rate; the band is its interval. On the page, point at a "
        f"chart, or focus it and press the arrow keys, to read values{each}."
    )
    return [Charts(note, [progress(content, place) for place in range(len(content.problems))])]


def progress(content: Content, place: int) -> Chart:
    problem, data = content.problems[place], content.charts[place]["training"]
    metrics = [spoken(metric) for metric in problem.metrics]
    alt = f"{problem.name}: {' and '.join(metrics)} against steps"
    picture = Picture(f"{slug(problem.name)}-curves", alt, lambda: draw_curves(content, place))
    return Chart(
        problem.name, "progress", data, metrics[0], place, setting(problem),
        [numbers(problem, metric) for metric in problem.metrics], picture if content.figures else None,
    )  # fmt: skip


def setting(problem: Problem) -> str:
    """How a problem was run, what decides on it, and where it comes from."""
    question = problem.question
    names = {question.first: "first", question.main: "main", question.last: "final"}
    targets = ", ".join(
        f"{names.get(target, '')} {spoken(target.metric)} {number(target.value)}".strip()
        + " (lanes stop there)" * target.final
        for target in question.targets
    )
    reported = f", reported by {spoken(question.score)}" * (question.score != question.selection)
    goals = f"Targets: {targets}." if targets else "It declares no target."
    source = f" Source: {question.source}." * bool(question.source)
    run = sentence(problem.rows.iloc[0].to_dict(), SETTING)
    return f"{run}. Learning rate chosen by {spoken(question.selection)}{reported}. {goals}{source}"


def numbers(problem: Problem, metric: str) -> Table:
    """A curve's medians at a few steps."""
    shown = {name: curve for name, curve in problem.curves[metric].items() if len(curve)}
    last = int(max((curve["step"].max() for curve in shown.values()), default=0))
    steps = [round(last * part / PARTS) for part in range(PARTS + 1)]
    rows = [
        (name, *(value(metric, middle) for middle in curve["middle"].to_numpy()[at]))
        for name, curve in shown.items()
        for at in [curve["step"].searchsorted(steps, side="right") - 1]
    ]
    header = ["optimizer", *(f"step {step:,}" for step in steps)]
    return Table(f"{problem.name}: median {spoken(metric)}", header, rows, 1)


def draw_curves(content: Content, place: int) -> Figure:
    """Every metric of a problem against steps, each optimizer at its best learning rate."""
    data = content.charts[place]["training"]
    figure, row = charts_beside_legend(content, place, len(data["progress"]), rings=False)
    for axes, chart in zip(row, data["progress"], strict=True):
        draw_progress(axes, chart, data["lost"], content.drawn)
        axes.set(xlabel="steps", ylabel=chart["label"])
        name_targets(axes, chart)
    return figure


def charts_beside_legend(content: Content, place: int, charts: int, rings: bool) -> tuple[Figure, Any]:
    """Axes side by side, and beside them every optimizer with its best learning rate, which needs its height."""
    problem = content.problems[place]
    names = [name for name in problem.optimizers if name in content.lit]
    looks = {at_best(problem, name): content.looks[name] for name in names}
    lines = sum(text.count("\n") + 1.4 for text in looks)
    figure = new_figure(WIDTH, max(2.9, 0.152 * (lines + 3)))
    legend(figure, looks, signs([problem], rings), loc="outside right upper", labelspacing=0.7)
    return figure, figure.subplots(1, charts, squeeze=False)[0]


def at_best(problem: Problem, name: str) -> str:
    """The legend's entry: the optimizer, its best learning rate, and what was lost there."""
    rows = problem.best[name]
    trial, counts = rows["trial"].iloc[0], lost(rows)["status"].value_counts().sort_index()
    rate = "" if pd.isna(trial) or name in problem.failed else f"\nlr {number(trial)}"
    gone = ", ".join(f"{n} of {len(rows)} {status}" for status, n in counts.items())
    return f"{wrapped(name)}{rate}" + f"\n× {gone}" * bool(gone)


def name_targets(axes: Any, chart: Mapping[str, Any]) -> None:
    """The value of each target, small, where its line ends."""
    low, high = axes.get_ylim()
    for target in chart["targets"]:
        if low < target < high:
            text = f"{100 * target:g}%" if chart["percent"] else number(target)
            axes.annotate(
                f"target {text}", (1, target), xycoords=("axes fraction", "data"), xytext=(3, 0),
                textcoords="offset points", ha="left", va="center", fontsize=6.5, color="#666666",
            )  # fmt: skip


def learning_rates(content: Content) -> list[Part]:
    if not content.searched:
        return []
    charts = [rates(content, place) for place in range(len(content.problems))]
    apart = any("also" in line for chart in charts for line in chart.data["lines"])
    plain = "Final value at every learning rate of the grid."
    more = "Final value of every trial, by its learning rate; trials differ in more, so no line joins them."
    marks = "A ring: the best. A cross in the strip on top: lanes diverged or failed there."
    return [Charts(f"{more if apart else plain} {marks}", charts, 3)]


def rates(content: Content, place: int) -> Chart:
    problem, metric = content.problems[place], content.problems[place].question.selection
    text = f"{problem.name}: final {spoken(metric)} by learning rate"
    rows = [
        (name, number(row["trial"]), *(value(metric, row[end]) for end in ("middle", "low", "high")),
         f"{row['lost']}/{row['lanes']}")
        for name, table in problem.sensitivities.items() for row in table.to_dict("records")
    ]  # fmt: skip
    header = ("optimizer", "learning rate", "median", "low", "high", "lost")
    picture = Picture(f"{slug(problem.name)}-sensitivity", text, lambda: draw_sensitivity(content, place))
    return Chart(
        problem.name, "rates", content.charts[place]["rates"], f"final {spoken(metric)}", place,
        numbers=[Table(text, header, rows, 1)], picture=picture if content.figures else None,
    )  # fmt: skip


def draw_sensitivity(content: Content, place: int) -> Figure:
    chart = content.charts[place]["rates"]
    figure, [axes] = charts_beside_legend(content, place, 1, rings=True)
    draw_rates(axes, chart, content.drawn)
    axes.set(xlabel="learning rate", ylabel=f"final {chart['label']}")
    return figure


def tuning(content: Content) -> list[Part]:
    if not content.searched:
        return []
    note = (
        "The best final value of k trials, drawn from those that ran: the median draw, of the median seed. A curve "
        "that is flat from the start needs no tuning."
    )
    charts = [
        Chart(problem.name, "trials", data["trials"], f"best {spoken(problem.question.selection)}", place)
        for place, (problem, data) in enumerate(zip(content.problems, content.charts, strict=True))
    ]
    table = defaults(content)
    return [Charts(note, charts, 3), *[Details(table.caption, [table])] * bool(table.rows)]


def defaults(content: Content) -> Table:
    metrics = {problem.name: problem.question.score for problem in content.problems}
    rows = []
    for row in untuned(content.standings["steps"].outcomes).to_dict("records"):
        digits = digits_apart((row["value"], row["best"]))
        both = (value(metrics[row["problem"]], row[name], digits=digits) for name in ("value", "best"))
        ranks = (f"{row[name]:g} of {row['others']}" for name in ("rank", "rank_tuned"))
        better = f"{row['better']}/{row['trials']}"
        rows.append((row["problem"], row["optimizer"], number(row["default"]), *both, better, *ranks))
    header = (
        "task", "optimizer", "default lr", "untuned", "tuned", "better trials", "rank untuned", "rank tuned",
    )  # fmt: skip
    where = "On fresh seeds" if content.staged else "Where the default learning rate is on the grid"
    note = f"{where}. better trials: those with a better selection metric than the default."
    return Table("Untuned defaults", header, rows, note=note)
