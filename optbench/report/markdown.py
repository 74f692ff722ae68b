"""Markdown from text that may hold anything."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from optbench.report.links import pieces

SPECIAL = re.compile(r"([\\`*\[\]<>|#~$&])|(?<![A-Za-z0-9])(_)|(_)(?![A-Za-z0-9])")


def escape(text: object) -> str:
    """Text that Markdown shows as it is, on one line; an underscore inside a word needs nothing."""
    return marked(" ".join(str(text).split()))


def marked(text: str) -> str:
    return SPECIAL.sub(lambda match: "\\" + match.group(0), text)


def linked(text: object) -> str:
    """The same with a link wherever it names a document."""
    found = (
        f"[{escape(part)}]({url})" if url else marked(part)
        for part, url in pieces(" ".join(str(text).split()))
    )
    return "".join(found)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table of escaped cells; the first `left` columns are aligned left, the others right."""
    return escaped_table(
        [escape(cell) for cell in header], ([escape(cell) for cell in row] for row in rows), left
    )


def escaped_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """The same from cells that are Markdown."""
    marks = ["---" if i < left else "---:" for i in range(len(header))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, marks, *rows))


def image(name: str, alt: str) -> str:
    """A figure of the report: a PNG that links to its SVG."""
    return f"[![{escape(alt)}](figures/{name}.png)](figures/{name}.svg)"


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def code(lines: Iterable[str]) -> str:
    """A block of commands, fenced with more backticks than they hold."""
    text = "\n".join(lines)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{text}\n{fence}"


def slug(text: str) -> str:
    """A file name from any text."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.") or "unnamed"
