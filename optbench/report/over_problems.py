"""The picture of who stands where over all problems: profiles, runtime distributions, and ranks with their cliques."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from optbench.report.figures import WIDTH, columns_that_fit, legend, new_figure
from optbench.report.look import look, order
from optbench.report.panels import BAND, few_ticks
from optbench.report.standing import SPOKEN, Standing
from optbench.stats import Frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BANDS = 6
"""Up to so many profiles show their bands."""


def draw_standing(standing: Standing) -> Figure:
    """Three panels on one axis."""
    names = order(standing.ranks["optimizer"])
    columns = columns_that_fit(names, WIDTH)
    height = max(2.4, 0.8 + 0.17 * len(names)) + 0.2 * math.ceil(len(names) / columns)
    figure = new_figure(WIDTH, height)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.05])
    draw_shares(left, standing.profiles, "ratio")
    left.set_title("performance profiles")
    left.set_xlabel(f"{SPOKEN[standing.axis]} over the fastest")
    left.set_ylabel("share of problems solved")
    draw_shares(middle, standing.distributions, "spent")
    middle.set_title("runtime distributions")
    middle.set_xlabel("share of the budget")
    middle.set_ylabel("share of targets reached")
    draw_ranks(right, standing)
    legend(figure, names, names, [], loc="outside upper center", ncols=columns)
    return figure


def draw_shares(axes: Axes, found: Frame, x: str) -> None:
    """Shares that grow along a log axis."""
    groups = list(found.groupby("optimizer", sort=False))
    for place, (name, rows) in enumerate(groups):
        style, at, share = look(str(name)), rows[x].to_numpy(float), rows["share"].to_numpy(float)
        if "low" in rows and len(groups) <= BANDS:
            axes.fill_between(
                at, rows["low"], rows["high"], step="post", color=style.colour, alpha=BAND, lw=0
            )
        every = max(1, len(at) // 5)
        axes.plot(
            at, share, **style.line(), drawstyle="steps-post", markevery=(place * every // len(groups), every)
        )
    axes.set_xscale("log")
    axes.set_xlim(found[x].min(), found[x].max())
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    few_ticks(axes.xaxis, *axes.get_xlim(), percent=x == "spent")
    if x == "ratio":
        axes.set_xticks([1, 1.5, 2, 3, 4], ["1", "1.5", "2", "3", "4"])


def draw_ranks(axes: Axes, standing: Standing) -> None:
    """Mean ranks with their intervals over problems (thin) and seeds (thick), and a bar beside each clique."""
    rows = standing.ranks.to_dict("records")
    for place, row in enumerate(rows):
        style = look(row["optimizer"])
        axes.plot([row["low_tasks"], row["high_tasks"]], [place, place], color=style.colour, lw=0.9)
        axes.plot([row["low"], row["high"]], [place, place], color=style.colour, lw=3.4, alpha=0.5)
        axes.plot(row["rank"], place, **{**style.line(), "linestyle": "none"}, ms=5)
    places = {row["optimizer"]: place for place, row in enumerate(rows)}
    shown = [names for names in standing.cliques if len(names) > 1]
    right = len(rows) + 0.15
    for column, names in enumerate(shown):
        ends = [min(map(places.__getitem__, names)) - 0.25, max(map(places.__getitem__, names)) + 0.25]
        axes.plot([right + 0.12 * column] * 2, ends, color="#1a1a1a", lw=2, solid_capstyle="butt")
    axes.set_yticks(range(len(rows)), [row["optimizer"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0.9, right + 0.12 * len(shown) + 0.05)
    axes.locator_params(axis="x", integer=True, nbins=6)
    axes.grid(axis="x")
    axes.grid(axis="y", visible=False)
    axes.set_title("mean rank")
    axes.set_xlabel(f"1 is best; by {SPOKEN[standing.axis]}")
