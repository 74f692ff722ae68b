"""reports.html: the reports of a folder, the newest first, each with what it says first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

from optbench.environment import whole
from optbench.report.folder import MANIFEST, save
from optbench.report.page import render

NAME = "reports.html"


class Listed(NamedTuple):
    """A report beside others."""

    name: str
    says: str
    """Its verdict, or its question where it has none."""
    written: date


def shelve(folder: Path, files: Mapping[str, bytes]) -> None:
    """Save a report, and list those of the folder around it, if there are several."""
    save(folder, files)
    if len(found := reports(folder.parent)) > 1:
        with whole(folder.parent / NAME) as temporary:
            temporary.write_bytes(render("reports.html", [], {}, {}, reports=found))


def reports(folder: Path) -> list[Listed]:
    """The reports in a folder, the newest first."""
    found = []
    for index in folder.glob("*/index.md"):
        manifest, text = index.with_name(MANIFEST), index.read_text(errors="replace")
        if manifest.is_file() and text.startswith("# "):
            verdict = text.partition("\n## Verdict\n\n")[2] or text.removeprefix("# ")
            says = re.sub(r"\\(.)", r"\1", verdict.partition("\n")[0])
            found.append((manifest.stat().st_mtime, index.parent.name, says))
    return [Listed(name, says, date.fromtimestamp(when)) for when, name, says in sorted(found, reverse=True)]
