"""Each optimizer's path across functions of two numbers, where such runs are stored."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure

from optbench.report.axes import draw_terrain
from optbench.report.charts import of_terrain
from optbench.report.content import Content
from optbench.report.figures import WIDTH, columns_that_fit, legend, new_figure
from optbench.report.parts import Chart, Charts, Part, Picture, Table
from optbench.report.paths import STATIONS, Terrain
from optbench.wording import listed, number

TOGETHER = 4
"""Up to so many paths share a picture; more get one each."""


def paths(content: Content) -> list[Part]:
    if not content.terrains:
        return []
    note = (
        "Each optimizer at the learning rate with the lowest final value. A ring: the start. A star: the minimum. "
        f"Markers: after {listed([str(step) for step in STATIONS])} steps. Contours are even on a log scale. This is "
        "an illustration, not a ranking. On the page, move across a picture to follow the steps."
    )
    data = [of_terrain(terrain, content.places) for terrain in content.terrains]
    charts = [
        Chart(terrain.name, "paths", each, numbers=[ends(terrain)])
        for terrain, each in zip(content.terrains, data, strict=True)
    ]
    alt = (
        f"{' and '.join(terrain.name for terrain in content.terrains)}: every optimizer's path to the minimum"
    )
    return [Charts(note, charts), *[Picture("paths", alt, lambda: draw(content, data))] * content.figures]


def ends(terrain: Terrain) -> Table:
    rows = [
        (path.optimizer, "-" if path.trial is None else number(path.trial), f"{len(path.points) - 1:,}",
         number(float(terrain.surface.height(*path.points[-1]))), str(path.status))
        for path in terrain.paths
    ]  # fmt: skip
    header = ("optimizer", "learning rate", "steps", "loss", "status")
    return Table(f"{terrain.name}: the end of each path", header, rows, 1)


def draw(content: Content, terrains: list[dict[str, Any]]) -> Figure:
    """One picture for each function, or one for each optimizer on each."""
    looks = list(content.looks.values())
    drawn = {path["o"] for terrain in terrains for path in terrain["paths"]}
    names = {name: look for place, (name, look) in enumerate(content.looks.items()) if place in drawn}
    together = len(names) <= TOGETHER
    columns = len(terrains) if together else 4
    side = WIDTH / max(2, columns)
    lines = [1 if together else math.ceil(len(terrain["paths"]) / columns) for terrain in terrains]
    figure = new_figure(side * columns, side + 0.35 if together else 1.95 * sum(lines))
    grid = figure.subplots(1 if together else sum(lines), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for i, terrain in enumerate(terrains):
        first = i if together else columns * sum(lines[:i])
        groups = [terrain["paths"]] if together else [[path] for path in terrain["paths"]]
        for place, shown in enumerate(groups):
            axes = grid.flat[first + place]
            axes.set_axis_on()
            draw_terrain(axes, terrain, shown, looks, small=not together)
            name = "" if together else f": {content.optimizers[shown[0]['o']]}"
            axes.set_title(terrain["name"] + name, fontsize=None if together else 7)
    if together:
        columns = columns_that_fit(list(names), side * columns)
        legend(figure, list(names.values()), list(names), [], loc="outside upper center", ncols=columns)
    return figure
