"""reports.html: the reports of a folder, the newest first, each with what it says first."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import NamedTuple

from optbench.environment import whole
from optbench.report.folder import MANIFEST
from optbench.report.page import render

NAME = "reports.html"
PARTS = re.compile(r"# (?P<question>.*)\n(?:.*\n)*?(?:## Verdict\n\n(?P<verdict>.*)\n|\Z)")


class Listed(NamedTuple):
    """A report beside others."""

    name: str
    question: str
    verdict: str
    written: date


def reports(folder: Path) -> list[Listed]:
    """The reports in a folder, the newest first."""
    found = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda path: (-path.stat().st_mtime, path))
    texts = {path: (path.parent / "index.md").read_text() for path in found if is_report(path.parent)}
    return [
        Listed(path.parent.name, match["question"], match["verdict"] or "", day(path))
        for path, text in texts.items()
        if (match := PARTS.match(text))
    ]


def is_report(folder: Path) -> bool:
    return (folder / "index.html").is_file() and (folder / "index.md").is_file()


def day(path: Path) -> date:
    return date.fromtimestamp(path.stat().st_mtime)


def list_reports(folder: Path) -> None:
    """Write the list beside the reports, if there are several."""
    if len(found := reports(folder)) > 1:
        with whole(folder / NAME) as temporary:
            temporary.write_bytes(render("reports.html", [], {}, {}, reports=found))
