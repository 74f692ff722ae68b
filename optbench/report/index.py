"""index.md: a report as Markdown, with pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from optbench.report.content import Content
from optbench.report.markdown import escape, linked
from optbench.report.parts import Section, to_markdown


def document(title: str, head: Iterable[str], sections: Sequence[Section]) -> bytes:
    """A Markdown page: a title, paragraphs of Markdown, and a section for each panel with something to show."""
    bodies = [(name, to_markdown(*parts)) for name, parts in sections]
    parts = [f"# {escape(title)}", *head, *(f"## {name}\n\n{body}" for name, body in bodies if body)]
    return ("\n\n".join(parts) + "\n").encode()


def index(content: Content, sections: Sequence[Section], beside: Mapping[str, str]) -> bytes:
    """index.md of a report; `beside` names what it links to."""
    links = ", ".join(f"[{name}]({place})" for name, place in beside.items())
    head = [
        *map(paragraph, content.about),
        f"Interactive version: [index.html](index.html). Numbers: {links}.",
    ]
    return document(content.question, head, sections)


def paragraph(text: str) -> str:
    """A paragraph of the suite's docstring; a command stays one."""
    return text if text.startswith("    ") else "\n".join(map(linked, text.splitlines()))
