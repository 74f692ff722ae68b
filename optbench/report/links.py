"""Where a text names a document, an address to it: DOI, arXiv, GitHub and plain addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

NAMED = re.compile(
    r"arXiv:(?P<arxiv>\d{4}\.\d{4,5})|doi:(?P<doi>10\.\d{4,9}/[^\s,;\"'<>|`\[\]]*[\w/])"
    r"|(?P<url>https?://[^\s,;\"'<>()\[\]`]*[\w/])|(?P<github>github\.com/[\w.-]+/[\w-]+)"
)
ADDRESSES = {
    "arxiv": "https://arxiv.org/abs/", "doi": "https://doi.org/", "url": "", "github": "https://",
}  # fmt: skip


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """The text in pieces, each with its address; '' for what names no document."""
    at = 0
    for match in NAMED.finditer(text):
        kind = match.lastgroup or ""
        yield text[at : match.start()], ""
        yield match[0], ADDRESSES[kind] + match[kind]
        at = match.end()
    yield text[at:], ""
