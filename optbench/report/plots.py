"""Drawing the figures that `optbench.claims.plots` describes as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optbench.claims.plots import Figure as Described
from optbench.claims.plots import Mark, Panel, Series
from optbench.report.figures import WIDTH, new_figure
from optbench.report.look import COLOURS, MARKERS, look
from optbench.report.panels import BAND, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.19
"""Inches of a named row."""


def draw(described: Described) -> Figure:
    """A described figure: its panels side by side, each with its own legend below its title."""
    rows = max(len(panel.rows) for panel in described.panels)
    single = len(described.panels) == 1
    figure = new_figure(WIDTH * (0.72 if single and not rows else 1), 0.9 + ROW * rows if rows else 2.9)
    if rows:  # constrained layout leaves long labels a little too little room
        figure.get_layout_engine().set(w_pad=0.12)  # pyright: ignore
    for axes, panel in zip(
        figure.subplots(1, len(described.panels), squeeze=False)[0], described.panels, strict=True
    ):
        draw_panel(axes, panel)
    return figure


def draw_panel(axes: Axes, panel: Panel) -> None:
    """One panel on axes."""
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    if panel.log_x:
        axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
    if panel.limits:
        axes.set_ylim(*panel.limits)
    for place, series in enumerate(panel.series):
        draw_series(axes, series, place)
    if panel.rows:
        axes.set_yticks(range(len(panel.rows)), panel.rows)
        axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    for mark in panel.marks:
        draw_mark(axes, mark)
    if len(panel.series) > 1:
        axes.legend(fontsize=7, handlelength=2.2)


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
    """A thin dashed line with its word at the end."""
    where: dict[str, Any] = {"fontsize": 6.5, "color": "#555555"}
    if mark.x is not None:
        axes.axvline(mark.x, color=GREY, lw=0.8, ls=(0, (3, 2)), zorder=1)
        axes.annotate(mark.text, (mark.x, 1), xycoords=("data", "axes fraction"), xytext=(2, -2),
                      textcoords="offset points", va="top", **where)  # fmt: skip
    if mark.y is not None:
        axes.axhline(mark.y, color=GREY, lw=0.8, ls=(0, (3, 2)), zorder=1)
        axes.annotate(mark.text, (1, mark.y), xycoords=("axes fraction", "data"), xytext=(-2, 2),
                      textcoords="offset points", ha="right", **where)  # fmt: skip
