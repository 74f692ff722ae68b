"""What a panel is made of. Each part renders itself as Markdown, and `templates/<name>.html` renders it on the page."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from optbench.report.content import Content
from optbench.report.markdown import bullets, escape, linked, table
from optbench.wording import count

MOST_ROWS = 250
"""Of a table in Markdown: what is longer is read on the page, where it can be searched and sorted."""


class Part:
    """Something that a panel shows; the template has its class's name and sees it as `part`."""

    def markdown(self) -> str:
        return ""

    def inside(self) -> Sequence[Part]:
        return ()


Panel = Callable[[Content], Sequence[Part]]
"""What makes a section of a report: the page, the Markdown and the figures loop over `panels.PANELS`."""
Section = tuple[str, Sequence[Part]]
"""The title of a panel, and its parts."""


def sections(content: Content, panels: Mapping[str, Panel]) -> list[Section]:
    """The panels that have something to show, each computed once for all forms of the report."""
    shown = ((title, panel(content)) for title, panel in panels.items())
    return [(title, parts) for title, parts in shown if parts]


def all_parts(parts: Sequence[Part]) -> Iterator[Part]:
    """Parts with those inside them, in the order of the page."""
    for part in parts:
        yield part
        yield from all_parts(part.inside())


def to_markdown(*parts: Part | str) -> str:
    """Parts, and texts that are Markdown already, as paragraphs."""
    texts = (part.markdown() if isinstance(part, Part) else part for part in parts)
    return "\n\n".join(filter(None, texts))


@dataclass(frozen=True)
class Text(Part):
    """A paragraph; or a heading within a panel."""

    text: str
    kind: str = ""
    """heading, or a class of page.css: headline or note."""

    def markdown(self) -> str:
        return f"### {escape(self.text)}" if self.kind == "heading" else linked(self.text)


@dataclass(frozen=True)
class Bullets(Part):
    """A list, with a heading if it has a title."""

    lines: Sequence[str]
    title: str = ""
    boxed: bool = False

    def markdown(self) -> str:
        return to_markdown(f"**{escape(self.title)}**" * bool(self.title), bullets(map(linked, self.lines)))


@dataclass(frozen=True)
class Terms(Part):
    """Terms and what they mean."""

    pairs: Mapping[str, str]
    kind: str = ""
    """A class of page.css: pairs, for short terms beside their texts."""

    def markdown(self) -> str:
        return bullets(f"**{escape(term)}**: {linked(text)}" for term, text in self.pairs.items())


@dataclass(frozen=True)
class Code(Part):
    """Commands to copy."""

    lines: Sequence[str]

    def markdown(self) -> str:
        text = "\n".join(self.lines)
        fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
        return f"{fence}sh\n{text}\n{fence}"


@dataclass(frozen=True)
class Table(Part):
    """Rows of texts; the first `left` columns are words."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 2
    note: str = ""

    def markdown(self) -> str:
        if len(self.rows) > MOST_ROWS:
            return f"{count(len(self.rows), 'row')}, which `index.html` shows."
        return to_markdown(table(self.header, self.rows, self.left), linked(self.note))


@dataclass(frozen=True)
class Picture(Part):
    """A figure for print, `figures/<name>.svg` and .png: shown in Markdown, on the page only if `embedded`."""

    name: str
    alt: str
    draw: Callable[[], Figure]
    """Called within `figures.style`."""
    caption: str = ""
    embedded: bool = False
    narrow: bool = False

    def markdown(self) -> str:
        image = f"[![{escape(self.alt)}](figures/{self.name}.png)](figures/{self.name}.svg)"
        return to_markdown(image, f"*{linked(self.caption)}*" * bool(self.caption))


@dataclass(frozen=True, eq=False)
class Chart(Part):
    """A chart of the page; Markdown shows a picture of the same data or, without one, its numbers."""

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
    of: str = ""
    """The kind of task that it shows, where it shows no single problem."""

    def markdown(self) -> str:
        numbers = [part for each in self.numbers for part in (f"*{escape(each.caption)}*", each)]
        body = to_markdown(linked(self.text), *([self.picture] if self.picture else numbers))
        return to_markdown(f"### {escape(self.name)}", body) if body else ""

    def inside(self) -> Sequence[Part]:
        return () if self.picture is None else (self.picture,)


@dataclass(frozen=True)
class Charts(Part):
    """Charts side by side."""

    note: str
    charts: Sequence[Chart]
    columns: int = 2

    def markdown(self) -> str:
        body = to_markdown(*self.charts)
        return to_markdown(linked(self.note), body) if body else ""

    def inside(self) -> Sequence[Part]:
        return self.charts


@dataclass(frozen=True)
class Details(Part):
    """Parts behind a summary."""

    summary: str
    parts: Sequence[Part]
    open: bool = False

    def markdown(self) -> str:
        summary = f"<details><summary>{html.escape(self.summary)}</summary>"
        return to_markdown(summary, *self.parts, "</details>")

    def inside(self) -> Sequence[Part]:
        return self.parts


@dataclass(frozen=True)
class ByAxis(Part):
    """Parts for each axis, of which the page shows those of the chosen one and Markdown those of steps."""

    axes: Mapping[str, Sequence[Part]]

    def markdown(self) -> str:
        return to_markdown(*next(iter(self.axes.values())))

    def inside(self) -> Sequence[Part]:
        return [part for parts in self.axes.values() for part in parts]
