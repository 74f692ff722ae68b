"""The measured claims of the optimizers' documents, with the figures that `optbench.claim.plots` describes as data."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optbench.claim import Kind, Verdict, plots
from optbench.report import markdown
from optbench.report.content import Content
from optbench.report.documents import HEADER, INTRODUCTION, Findings, counts
from optbench.report.figures import BAND, GREY, WIDTH, few_ticks, new_figure
from optbench.report.look import COLOURS, MARKERS, look
from optbench.report.parts import Part, Picture, Table, Text

ROW = 0.19
"""Inches of a named row of a figure."""


def claims(content: Content) -> list[Part]:
    return parts_of(content.claims) if content.claims else []


def parts_of(findings: Sequence[Findings]) -> list[Part]:
    parts: list[Part] = [Text(INTRODUCTION, "note"), Tally(counts(findings))]
    for each in findings:
        source = Text(f"Source: {each.document.source}", "note")
        parts += [Text(each.document.title, "heading"), source, Claims(each)]
        for table in each.tables:
            name = table.name.replace("-", " ").capitalize()
            parts += [Text(table.caption, "note"), Table(name, table.header, table.rows, 3)]
        parts += [
            Picture(
                f"claims-{one.name}", one.name.replace("-", " "), functools.partial(draw, one), one.caption,
                embedded=True, narrow=len(one.panels) == 1,
            )
            for one in each.figures
        ]  # fmt: skip
    return parts


@dataclass(frozen=True)
class Tally(Part):
    """How many claims of each kind have each verdict."""

    counts: Sequence[tuple[Kind, Sequence[tuple[Verdict, int]]]]

    def markdown(self) -> str:
        rows = [(kind, v, v.sentence, str(count)) for kind, verdicts in self.counts for v, count in verdicts]
        return markdown.table(("kind", "verdict", "meaning", "claims"), rows, 3)


@dataclass(frozen=True)
class Claims(Part):
    """The claims of a document, each with its verdict."""

    findings: Findings

    def markdown(self) -> str:
        rows = self.findings.rows
        claim = rows["statement"] + " (" + rows["document"] + "." + rows["claim"] + "; " + rows["kind"] + ")"
        cells = rows.assign(claim=claim)[list(HEADER)].itertuples(index=False, name=None)
        return markdown.table(HEADER, cells, len(HEADER))


def draw(described: plots.Figure) -> Figure:
    """A described figure: its panels side by side; one legend above where they show the same, else one in each."""
    panels, rows = described.panels, max(len(panel.rows) for panel in described.panels)
    labels = [[series.label for series in panel.series] for panel in panels]
    alike = len(panels) > 1 and len(labels[0]) > 1 and all(each == labels[0] for each in labels)
    shared = rows > 0 or alike
    height = 0.9 + ROW * rows if rows else 2.9 + 0.25 * shared
    figure = new_figure(WIDTH * (0.78 if len(panels) == 1 and not rows else 1), height)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(grid, panels, strict=True):
        draw_panel(axes, panel, legend=not shared)
    if rows:  # constrained layout leaves long labels a little too little room
        figure.get_layout_engine().set(w_pad=0.14)  # pyright: ignore
    if shared:
        how: dict[str, Any] = {"ncols": len(labels[0]), "fontsize": 7, "handlelength": 2.2}
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", **how)
    return figure


def draw_panel(axes: Axes, panel: plots.Panel, legend: bool) -> None:
    axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
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


def draw_series(axes: Axes, series: plots.Series, place: int) -> None:
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
    if series.low is not None and series.high is not None:
        band = axes.fill_between(series.x, series.low, series.high, color=style["color"], alpha=BAND, lw=0)  # pyright: ignore
        if not series.line and not series.markers:
            band.set_label(series.label)
            return
    axes.plot(series.x, series.y, label=series.label, **style)


def draw_mark(axes: Axes, mark: plots.Mark) -> None:
    """A thin dashed line with its text at the end."""
    line: dict[str, Any] = {"color": GREY, "lw": 0.8, "ls": (0, (3, 2)), "zorder": 1}
    text: dict[str, Any] = {"textcoords": "offset points", "fontsize": 6.5, "color": "#555555"}
    if mark.x is not None:
        axes.axvline(mark.x, **line)
        where: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "xytext": (2, -2), "va": "top"}
        axes.annotate(mark.text, (mark.x, 1), **where, **text)
    if mark.y is not None:
        axes.axhline(mark.y, **line)
        where = {"xycoords": ("axes fraction", "data"), "xytext": (-2, 2), "ha": "right"}
        axes.annotate(mark.text, (1, mark.y), **where, **text)
