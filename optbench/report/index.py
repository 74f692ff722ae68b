"""index.md: a report as Markdown, with pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from optbench.report.content import Content
from optbench.report.markdown import escape
from optbench.report.parts import Section, to_markdown


def document(title: str, head: Iterable[str], sections: Sequence[Section]) -> bytes:
    """A Markdown page: a title, paragraphs of Markdown, and a section for each panel with something to show."""
    bodies = [(name, to_markdown(*parts)) for name, parts in sections]
    parts = [f"# {escape(title)}", *head, *(f"## {name}\n\n{body}" for name, body in bodies if body)]
    return ("\n\n".join(parts) + "\n").encode()


def index(content: Content, sections: Sequence[Section]) -> bytes:
    head = [*map(paragraph, content.about), "Interactive version: [index.html](index.html)."]
    return document(content.question, head, sections)


def paragraph(text: str) -> str:
    """A paragraph of the suite's docstring; a command stays one."""
    return text if text.startswith("    ") else "\n".join(map(escape, text.splitlines()))
