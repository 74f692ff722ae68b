"""Drawing the figures that `optbench.claim.plots` describes as data."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optbench.claim.plots import Figure as Described
from optbench.claim.plots import Mark, Panel, Series
from optbench.report.axes import BAND, GREY, few_ticks
from optbench.report.figures import WIDTH, new_figure
from optbench.report.look import COLOURS, MARKERS, look

ROW = 0.19
"""Inches of a named row."""


def draw(described: Described) -> Figure:
    """A described figure: its panels side by side; one legend above where they show the same, else one in each."""
    panels, rows = described.panels, max(len(panel.rows) for panel in described.panels)
    labels = [[series.label for series in panel.series] for panel in panels]
    shared = rows > 0 or (
        len(panels) > 1 and len(labels[0]) > 1 and all(each == labels[0] for each in labels)
    )
    height = 0.9 + ROW * rows if rows else 2.9 + 0.25 * shared
    figure = new_figure(WIDTH * (0.78 if len(panels) == 1 and not rows else 1), height)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(grid, panels, strict=True):
        draw_panel(axes, panel, legend=not shared)
    if rows:  # constrained layout leaves long labels a little too little room
        figure.get_layout_engine().set(w_pad=0.14)  # pyright: ignore
    if shared:
        handles = grid[0].get_legend_handles_labels()
        figure.legend(
            *handles, loc="outside upper center", ncols=len(labels[0]), fontsize=7, handlelength=2.2
        )
    return figure


def draw_panel(axes: Axes, panel: Panel, legend: bool) -> None:
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    if panel.limits:
        axes.set_ylim(*panel.limits)
    for place, series in enumerate(panel.series):
        draw_series(axes, series, place)
    for mark in panel.marks:
        draw_mark(axes, mark)
    scale(axes, "x", panel.log_x)
    if panel.rows:
        axes.set_yticks(range(len(panel.rows)), panel.rows)
        axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    else:
        scale(axes, "y", panel.log_y)
    if legend and len(panel.series) > 1:
        axes.legend(fontsize=7, handlelength=2.2)


def scale(axes: Axes, which: str, log: bool) -> None:
    """A log scale with few ticks, or a linear one with thousands separators."""
    axis = getattr(axes, f"{which}axis")
    if log:
        axes.set(**{f"{which}scale": "log"})
        few_ticks(axis, *axis.get_view_interval())
    else:
        axis.set_major_formatter(lambda value, _: f"{value:,g}".replace("-", "\N{MINUS SIGN}"))


def draw_series(axes: Axes, series: Series, place: int) -> None:
    """A line, markers or a band, in the look of its optimizer or in the colour of its place."""
    style: dict[str, Any] = look(series.optimizer).line() if series.optimizer else {
        "color": COLOURS[place % len(COLOURS)][0], "marker": MARKERS[place % len(MARKERS)],
    }  # fmt: skip
    if series.quiet:
        style |= {"color": GREY, "linewidth": 0.9}
    if not series.markers:
        style.pop("marker")
        style.pop("markerfacecolor", None)
    if not series.line:  # points that fall together stay visible
        style |= {"linestyle": "none", "markersize": 6 - 2 * place}
    band = series.low is not None and series.high is not None
    label = series.label
    if band:
        shade = axes.fill_between(
            series.x, series.low, series.high, color=style["color"], alpha=BAND, lw=0,  # pyright: ignore
        )  # fmt: skip
        if not series.line and not series.markers:
            shade.set_label(label)
            return
    axes.plot(series.x, series.y, label=label, **style)


def draw_mark(axes: Axes, mark: Mark) -> None:
    """A thin dashed line with its text at the end."""
    where: dict[str, Any] = {"fontsize": 6.5, "color": "#555555"}
    if mark.x is not None:
        axes.axvline(mark.x, color=GREY, lw=0.8, ls=(0, (3, 2)), zorder=1)
        axes.annotate(mark.text, (mark.x, 1), xycoords=("data", "axes fraction"), xytext=(2, -2),
                      textcoords="offset points", va="top", **where)  # fmt: skip
    if mark.y is not None:
        axes.axhline(mark.y, color=GREY, lw=0.8, ls=(0, (3, 2)), zorder=1)
        axes.annotate(mark.text, (1, mark.y), xycoords=("axes fraction", "data"), xytext=(-2, 2),
                      textcoords="offset points", ha="right", **where)  # fmt: skip
