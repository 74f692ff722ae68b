"""Markdown from text that may hold anything, with links to the documents that it names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

NAMED = re.compile(
    r"arXiv:(?P<arxiv>\d{4}\.\d{4,5})|doi:(?P<doi>10\.\d{4,9}/[^\s,;\"'<>|`\[\]]*[\w/])"
    r"|(?P<url>https?://[^\s,;\"'<>()\[\]`]*[\w/])|(?P<github>github\.com/[\w.-]+/[\w-]+)"
)
ADDRESSES = {"arxiv": "https://arxiv.org/abs/", "doi": "https://doi.org/", "url": "", "github": "https://"}
SPECIAL = re.compile(r"([\\`*\[\]<>|#~$&])|(?<![A-Za-z0-9])(_)|(_)(?![A-Za-z0-9])")


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """The text in pieces, each with its address; '' for what names no document."""
    at = 0
    for match in NAMED.finditer(text):
        kind = match.lastgroup or ""
        yield text[at : match.start()], ""
        yield match[0], ADDRESSES[kind] + match[kind]
        at = match.end()
    yield text[at:], ""


def escape(text: object) -> str:
    """Text that Markdown shows as it is, on one line; an underscore inside a word needs nothing."""
    return marked(" ".join(str(text).split()))


def marked(text: str) -> str:
    return SPECIAL.sub(r"\\\g<0>", text)


def linked(text: object) -> str:
    """The same with a link wherever it names a document."""
    found = ((marked(part), url) for part, url in pieces(" ".join(str(text).split())))
    return "".join(f"[{part}]({url})" if url else part for part, url in found)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table of escaped cells; the first `left` columns are aligned left, the others right."""
    escaped = ([escape(cell) for cell in line] for line in (header, *rows))
    return escaped_table(next(escaped), escaped, left)


def escaped_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """The same from cells that are Markdown."""
    marks = ["---" if i < left else "---:" for i in range(len(header))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, marks, *rows))


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def slug(text: str) -> str:
    """A file name from any text."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.") or "unnamed"
