"""What a panel is made of. Each part renders itself as Markdown, and `templates/<name>.html` renders it on the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape as html_escape
from typing import TYPE_CHECKING, Any

from optbench.report import markdown as md
from optbench.report.content import Content

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Part:
    """Something that a panel shows; the template has its class's name and sees it as `part`."""

    def markdown(self) -> str:
        return ""

    @property
    def inside(self) -> Sequence[Part]:
        """The parts within this one."""
        return ()


@dataclass(frozen=True)
class Panel:
    """A section of a report: the page, the Markdown and the figures loop over `panels.PANELS`."""

    title: str
    parts: Callable[[Content], Sequence[Part]]
    """What it shows of a report; nothing where it does not apply."""


Section = tuple[str, Sequence[Part]]
"""The title of a panel, and its parts."""


def sections(content: Content, panels: Sequence[Panel]) -> list[Section]:
    """The panels that have something to show, each computed once for all forms of the report."""
    shown = ((panel.title, panel.parts(content)) for panel in panels)
    return [(title, parts) for title, parts in shown if parts]


def all_parts(parts: Sequence[Part]) -> Iterator[Part]:
    """Parts with those inside them, in the order of the page."""
    for part in parts:
        yield part
        yield from all_parts(part.inside)


def to_markdown(parts: Sequence[Part]) -> str:
    return "\n\n".join(text for part in parts if (text := part.markdown()))


@dataclass(frozen=True)
class Text(Part):
    """A paragraph."""

    text: str
    kind: str = ""
    """A class of page.css: headline or note; or heading, for a heading within a panel."""

    def markdown(self) -> str:
        return "### " * (self.kind == "heading") + md.escape(self.text)


@dataclass(frozen=True)
class Bullets(Part):
    """A list, under a heading of its own if it has a title."""

    lines: Sequence[str]
    title: str = ""
    boxed: bool = False

    def markdown(self) -> str:
        title = f"**{md.escape(self.title)}**\n\n" * bool(self.title)
        return title + md.bullets(map(md.escape, self.lines))


@dataclass(frozen=True)
class Terms(Part):
    """Terms and what they mean."""

    pairs: Mapping[str, str]
    kind: str = ""
    """A class of page.css: pairs, for short terms beside their texts."""

    def markdown(self) -> str:
        return md.bullets(f"**{md.escape(term)}**: {md.escape(text)}" for term, text in self.pairs.items())


@dataclass(frozen=True)
class Code(Part):
    """Commands to copy."""

    lines: Sequence[str]

    def markdown(self) -> str:
        return md.code(self.lines)


@dataclass(frozen=True)
class Table(Part):
    """A caption, a header and rows of texts; the first `left` columns are words."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 2
    note: str = ""

    def markdown(self) -> str:
        text = md.table(self.header, self.rows, self.left)
        return f"{text}\n\n{md.escape(self.note)}" if self.note else text


@dataclass(frozen=True)
class Picture(Part):
    """A figure for print, `figures/<name>.svg` and .png: shown in Markdown, on the page only if `embedded`."""

    name: str
    alt: str
    draw: Callable[[], Figure]
    """Called within `figures.style`."""
    caption: str = ""
    embedded: bool = False
    single: bool = False
    """Whether it is narrow."""

    def markdown(self) -> str:
        return md.picture(self.name, self.alt) + f"\n\n*{md.escape(self.caption)}*" * bool(self.caption)


@dataclass(frozen=True, eq=False)
class Chart(Part):
    """A chart of the page, which has no place in Markdown but through the picture of the same data."""

    name: str
    kind: str
    """A function of charts.js, which draws `data`."""
    data: Any
    label: str = ""
    """What it shows, beside its name."""
    problem: int | None = None
    """The place of its problem, by which the page can be narrowed."""
    text: str = ""
    numbers: Sequence[Table] = ()
    picture: Picture | None = None

    def markdown(self) -> str:
        if self.picture is None:
            return ""
        parts = (f"### {md.escape(self.name)}", md.escape(self.text), self.picture.markdown())
        return "\n\n".join(filter(None, parts))

    @property
    def inside(self) -> Sequence[Part]:
        return () if self.picture is None else (self.picture,)


@dataclass(frozen=True)
class Charts(Part):
    """Charts side by side."""

    note: str
    charts: Sequence[Chart]
    columns: int = 2

    def markdown(self) -> str:
        found = to_markdown(self.charts)
        return f"{md.escape(self.note)}\n\n{found}" if found else ""

    @property
    def inside(self) -> Sequence[Part]:
        return self.charts


@dataclass(frozen=True)
class Details(Part):
    """Parts behind a summary; closed unless said."""

    summary: str
    parts: Sequence[Part]
    open: bool = False

    def markdown(self) -> str:
        head = f"<details><summary>{html_escape(self.summary)}</summary>"
        return f"{head}\n\n{to_markdown(self.parts)}\n\n</details>"

    @property
    def inside(self) -> Sequence[Part]:
        return self.parts


@dataclass(frozen=True)
class ByAxis(Part):
    """Parts for each axis, of which the page shows those of the chosen one and Markdown those of steps."""

    axes: Mapping[str, Sequence[Part]]

    def markdown(self) -> str:
        return to_markdown(next(iter(self.axes.values())))

    @property
    def inside(self) -> Sequence[Part]:
        return [part for parts in self.axes.values() for part in parts]
