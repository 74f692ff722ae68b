"""One figure of a result, for a notebook: the curves of each optimizer's best trial."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from optbench.report.look import looks
from optbench.stats import Frame
from optbench.stats.curves import curve
from optbench.stats.outcomes import chosen
from optbench.stats.settings import question_of
from optbench.wording import spoken


def plot(frame: Frame, metric: str | None = None) -> Figure:
    """The median over seeds against steps with its interval, a chart for each task."""
    tasks = list(dict.fromkeys(frame["task"]))
    figure = Figure(figsize=(4.5 * min(3, len(tasks)), 3.2 * -(-len(tasks) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(tasks) // 3), min(3, len(tasks)), squeeze=False).flat
    for axis, task in zip(axes, tasks, strict=False):
        rows = frame[frame["task"] == task]
        shown = metric or question_of(rows).selection
        for name, style in looks(rows["optimizer"]).items():
            line = curve(chosen(rows[rows["optimizer"] == name]), shown).replace([math.inf], math.nan)
            axis.plot(line["step"], line["middle"], color=style.colour, linestyle=style.dash, label=name)
            axis.fill_between(line["step"], line["low"], line["high"], color=style.colour, alpha=0.15, lw=0)
        axis.set(title=task, xlabel="step", ylabel=spoken(shown))
        if all((line.get_ydata() > 0).any() for line in axis.lines):  # pyright: ignore
            axis.set_yscale("log", nonpositive="mask")
        axis.legend(fontsize="small", frameon=False)
    return figure
