"""Figures and tables as data, which a report draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that belong together: a line, markers, or both; `low` and `high` are the ends of a band."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    optimizer: str | None = None
    """Drawn in the colour and glyph of this optimizer; otherwise in the colour of its index in the panel."""
    line: bool = True
    markers: bool = False
    quiet: bool = False
    """Grey, behind the others."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A vertical line at a value of x, or a horizontal one at a value of y, with a word."""

    text: str
    x: float | None = None
    y: float | None = None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes; `rows` labels y = 0, 1, ... from the top, where y is categorical."""

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    log_x: bool = False
    log_y: bool = False
    rows: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None
    """Of y."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under a header, with one caption."""

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Panels side by side, with one caption that says what to see."""

    name: str
    caption: str
    panels: tuple[Panel, ...]
