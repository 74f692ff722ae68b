"""Training curves, final values by learning rate, and what tuning gains: a chart for each problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from optbench.report.axes import draw_progress, draw_rates
from optbench.report.content import Content
from optbench.report.figures import WIDTH, legend, new_figure, signs, wrapped
from optbench.report.markdown import slug
from optbench.report.parts import Chart, Charts, Details, Part, Picture, Table
from optbench.report.problem import Problem
from optbench.stats.settings import SETTING, sentence
from optbench.stats.tunability import untuned
from optbench.wording import digits_apart, number, spoken, value

PARTS = 4
"""A curve's numbers are given at its start, its end, and in as many equal parts."""


def curves(content: Content) -> list[Part]:
    lines = seen(content)
    each = "; enlarged, it shows each seed" * any(line.get("seeds") for line in lines)
    each += ", and of a single optimizer its other learning rates, dashed" * any(
        line.get("others") for line in lines
    )
    note = (
        "Median over seeds at each optimizer's best learning rate; the band is its interval. On the page, point at a "
        f"chart, or focus it and press the arrow keys, to read values{each}."
    )
    return [Charts(note, [progress(content, place) for place in range(len(content.problems))])]


def seen(content: Content) -> list[dict[str, Any]]:
    """The lines of all curves."""
    drawn = [chart for each in content.charts for chart in each["training"]["progress"]]
    return [line for chart in drawn for line in chart["lines"]]


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
    return (
        f"{sentence(problem.rows.iloc[0].to_dict(), SETTING)}. Learning rate chosen by "
        f"{spoken(question.selection)}{reported}. "
        + (f"Targets: {targets}." if targets else "It declares no target.")
        + f" Source: {question.source}." * bool(question.source)
    )


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
    figure = new_figure(WIDTH, height_for(content, content.problems[place]))
    row = figure.subplots(1, len(data["progress"]), squeeze=False)[0]
    for axes, chart in zip(row, data["progress"], strict=True):
        draw_progress(axes, chart, data["lost"], content.drawn)
        axes.set_xlabel("steps")
        axes.set_ylabel(chart["label"])
        name_targets(axes, chart)
    side_legend(figure, content, place, rings=False)
    return figure


def height_for(content: Content, problem: Problem) -> float:
    """Inches: a chart's height, or what the legend beside it needs."""
    lines = sum(
        at_best(problem, name).count("\n") + 1.4 for name in problem.optimizers if name in content.lit
    )
    return max(2.9, 0.152 * (lines + 3))


def side_legend(figure: Figure, content: Content, place: int, rings: bool) -> None:
    """Every optimizer with its best learning rate, beside the charts."""
    problem = content.problems[place]
    names = [name for name in problem.optimizers if name in content.lit]
    looks = [content.looks[name] for name in names]
    texts = [at_best(problem, name) for name in names]
    legend(figure, looks, texts, signs([problem], rings), loc="outside right upper", labelspacing=0.7)


def at_best(problem: Problem, name: str) -> str:
    """The legend's entry: the optimizer, its best learning rate, and what was lost there."""
    trial, lost = problem.best[name]["trial"].iloc[0], problem.lost(name)
    swept = trial is not None and trial == trial and name not in problem.failed
    rate = f"\nlr {number(trial)}" if swept else ""  # pyright: ignore[reportArgumentType]
    return f"{wrapped(name)}{rate}" + f"\n× {lost}" * bool(lost)


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
    charts = [rates(content, place) for place in range(len(content.problems))]
    apart = any("also" in line for chart in charts for line in chart.data["lines"])
    what = (
        "Final value of every trial, by its learning rate; trials differ in more, so no line joins them."
        if apart
        else ("Final value at every learning rate of the grid.")
    )
    note = f"{what} A ring: the best. A cross in the strip on top: lanes diverged or failed there."
    return [Charts(note, charts, 3)] if content.searched else []


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
    figure = new_figure(WIDTH, height_for(content, content.problems[place]))
    axes = figure.subplots()
    draw_rates(axes, chart, content.drawn)
    axes.set_xlabel("learning rate")
    axes.set_ylabel(f"final {chart['label']}")
    side_legend(figure, content, place, rings=True)
    return figure


def tuning(content: Content) -> list[Part]:
    note = (
        "The best final value of k trials, drawn from those that ran: the median draw, of the median seed. A curve "
        "that is flat from the start needs no tuning."
    )
    if not content.searched:
        return []
    charts = [
        Chart(problem.name, "trials", data["trials"], f"best {spoken(problem.question.selection)}", place)
        for place, (problem, data) in enumerate(zip(content.problems, content.charts, strict=True))
    ]
    table = defaults(content)
    return [Charts(note, charts, 3), *([Details(table.caption, [table])] if table.rows else [])]


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
