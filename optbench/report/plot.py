"""One figure of a result, for a notebook: the curves of each optimizer's best trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optbench.report.look import look, order
from optbench.stats import Frame
from optbench.stats.curves import curve
from optbench.stats.summary import best_trial, question_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(frame: Frame, metric: str | None = None) -> Figure:
    """The median over seeds against steps with its interval, a chart for each task."""
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(frame["task"]))
    figure = Figure(figsize=(4.5 * min(3, len(tasks)), 3.2 * -(-len(tasks) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(tasks) // 3), min(3, len(tasks)), squeeze=False).flat
    for axis, task in zip(axes, tasks, strict=False):
        rows = frame[frame["task"] == task]
        shown = metric or question_of(rows).selection
        names = order(rows["optimizer"])
        for name in names:
            own = rows[rows["optimizer"] == name]
            best = best_trial(own)
            line = curve(own if best is None else own[own["trial"] == best], shown)
            style = look(name)
            axis.plot(line["step"], line["middle"], color=style.color, label=name)
            axis.fill_between(line["step"], line["low"], line["high"], color=style.color, alpha=0.15, lw=0)
        axis.set(title=task, xlabel="step", ylabel=shown.replace("_", " "))
        if (rows_positive := [line.get_ydata() for line in axis.lines]) and all(
            (y > 0).all() for y in rows_positive
        ):
            axis.set_yscale("log")
        axis.legend(fontsize="small")
    return figure
