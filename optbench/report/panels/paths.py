"""Each optimizer's path across functions of two numbers, where such runs are stored."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from optbench.report.charts import of_terrain
from optbench.report.content import Content
from optbench.report.figures import WIDTH, columns_that_fit, draw_terrain, legend, new_figure
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
    names = " and ".join(terrain.name for terrain in content.terrains)
    alt = f"{names}: every optimizer's path to the minimum"
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
    """One picture for each function, or one for each optimizer on each, then each function on lines of its own."""
    looks = list(content.looks.values())
    drawn = {path["o"] for terrain in terrains for path in terrain["paths"]}
    names = {name: look for place, (name, look) in enumerate(content.looks.items()) if place in drawn}
    together = len(names) <= TOGETHER
    columns = len(terrains) if together else 4
    cells: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for terrain in terrains:
        groups = [terrain["paths"]] if together else [[path] for path in terrain["paths"]]
        cells += [(terrain, shown) for shown in groups]
        cells += [(terrain, [])] * (-len(cells) % columns if not together else 0)
    side, lines = WIDTH / max(2, columns), len(cells) // columns
    figure = new_figure(side * columns, side + 0.35 if together else 1.95 * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes, (terrain, shown) in zip(grid.flat, cells, strict=True):
        if not shown:
            axes.set_axis_off()
            continue
        draw_terrain(axes, terrain, shown, looks, small=not together)
        name = "" if together else f": {content.optimizers[shown[0]['o']]}"
        axes.set_title(terrain["name"] + name, fontsize=None if together else 7)
    if together:
        fitting = columns_that_fit(list(names), side * columns)
        legend(figure, names, loc="outside upper center", ncols=fitting)
    return figure
