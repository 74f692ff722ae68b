"""`optbench export`: rows to a tidy table of curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optbench.exchange import curves
from optbench.fields import UserError
from optbench.report.selection import Selection
from optbench.store import Store
from optbench.wording import count


def export_in_terminal(selection: Selection, to: str) -> tuple[int, dict[str, Any]]:
    """The rows that a report would show, as a tidy table of curves."""
    if not to:
        raise UserError("--to needs the CSV file to write, such as --to curves.csv")
    store = Store(selection.results)
    selection = selection.found_in(store)
    rows = selection.rows(selection.read(store), store.folder)
    tidy = curves.table(rows)
    Path(to).parent.mkdir(parents=True, exist_ok=True)
    tidy.to_csv(to, index=False, na_rep="")
    lines = len(tidy)
    print(
        f"Wrote {to}: {count(len(rows), 'cell')} in {count(lines, 'line')}. docs/import.md describes the columns."
    )
    return 0, {"file": to, "cells": len(rows), "lines": lines}
