"""The picture of paths: contours, and every optimizer's way from the start to the minimum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optbench.report.figures import WIDTH, columns_that_fit, legend, new_figure
from optbench.report.look import look, order
from optbench.report.paths import STATIONS, Path, Terrain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOGETHER = 4
"""Up to so many paths share a panel; more get one each."""
CONTOUR = "#c9ced6"


def draw_paths(terrains: Sequence[Terrain]) -> Figure:
    """All functions: one panel for each, or one for each optimizer on each."""
    names = order(path.optimizer for terrain in terrains for path in terrain.paths)
    if len(names) <= TOGETHER:
        return together(terrains, names)
    return apart(terrains)


def together(terrains: Sequence[Terrain], names: Sequence[str]) -> Figure:
    """Every path of a function in one panel."""
    side = WIDTH / max(2, len(terrains))
    figure = new_figure(side * len(terrains), side + 0.35)
    row = figure.subplots(1, len(terrains), squeeze=False)[0]
    for axes, terrain in zip(row, terrains, strict=True):
        draw_terrain(axes, terrain)
        axes.set_title(terrain.name)
        for path in terrain.paths:
            draw_path(axes, path)
    columns = columns_that_fit(names, side * len(terrains))
    legend(figure, names, names, [], loc="outside upper center", ncols=columns)
    return figure


def apart(terrains: Sequence[Terrain]) -> Figure:
    """A panel for each path."""
    pairs = [(terrain, path) for terrain in terrains for path in terrain.paths]
    columns = 4
    lines = sum(math.ceil(len(terrain.paths) / columns) for terrain in terrains)
    figure = new_figure(WIDTH, 1.95 * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    place = 0
    for i, (terrain, path) in enumerate(pairs):
        if i and terrain is not pairs[i - 1][0]:
            place = math.ceil(place / columns) * columns
        axes = grid.flat[place]
        axes.set_axis_on()
        draw_terrain(axes, terrain, small=True)
        draw_path(axes, path)
        axes.set_title(f"{terrain.name}: {path.optimizer}", fontsize=7)
        place += 1
    return figure


def draw_terrain(axes: Axes, terrain: Terrain, small: bool = False) -> None:
    """Contours, a ring at the start, a star at the minimum."""
    for line in terrain.contours:
        axes.plot(line[:, 0], line[:, 1], color=CONTOUR, lw=0.6, zorder=1)
    start, end = terrain.surface.start, terrain.surface.minimum
    size = 0.6 if small else 1.0
    axes.plot(*start, marker="o", ms=7 * size, mfc="white", mec="#1a1a1a", mew=1, zorder=5)
    axes.plot(*end, marker="*", ms=10 * size, mfc="#1a1a1a", mec="white", mew=0.6, zorder=5)
    axes.set_xlim(*terrain.window[0])
    axes.set_ylim(*terrain.window[1])
    axes.set_aspect("equal")
    axes.grid(False)
    if small:
        axes.set_xticks([])
        axes.set_yticks([])
    else:
        axes.locator_params(nbins=5)
        axes.set_xlabel("x")
        axes.set_ylabel("y")


def draw_path(axes: Axes, path: Path) -> None:
    """A line with a marker after 1, 10 and 100 steps."""
    style: dict[str, Any] = look(path.optimizer).line()
    stations = [step for step in STATIONS if step < len(path.points)]
    axes.plot(*path.points.T, **{**style, "ms": 4.5}, lw=1.2, markevery=stations, zorder=3)
