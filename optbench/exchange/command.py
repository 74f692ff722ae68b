"""`optbench import`: a file to rows, and AlgoPerf's scores; `optbench export`: rows to a tidy table of curves."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optbench.exchange import algoperf, curves
from optbench.exchange.sheet import Sheet
from optbench.fields import UserError
from optbench.record import IMPORTED
from optbench.report.selection import Selection
from optbench.resultfile import packed
from optbench.stats import Frame
from optbench.stats.outcomes import at_best, complete, outcomes
from optbench.stats.profiles import algoperf_scores, published
from optbench.store import Store
from optbench.wording import columns, count


def import_in_terminal(kind: str, path: str, results: str, metric: str | None) -> tuple[int, dict[str, Any]]:
    """Rows of a file into a results folder; of AlgoPerf's tables, also the scores."""
    if metric is not None and kind == "algoperf":
        raise UserError(
            "--metric is for curves: optbench import csv FILE. AlgoPerf's tables have times only."
        )
    if not Path(path).is_file():
        raise UserError(f"{path!r} is no file. Give a CSV file; docs/import.md says what it holds.")
    sheet = Sheet(kind, path)
    rows = algoperf.rows(sheet) if kind == "algoperf" else curves.rows(sheet, metric)
    store = keep(rows, results, sheet)
    named = {f"{name}s": len({row[name] for row in rows}) for name in ("task", "optimizer")}
    counts = {"cells": len(rows), **named}
    what = ", ".join(count(number, name[:-1]) for name, number in counts.items())
    said = [f"Imported {what} into {results}."]
    facts: dict[str, Any] = {"results": results, **counts}
    if kind == "algoperf":
        frame = store.frame(tasks={row["task"] for row in rows})
        block = complete(at_best(outcomes(frame, "seconds")))
        facts["scores"] = algoperf_scores(block.rows, *published(frame))
        said = [*as_text(facts["scores"]), *said]
    print("\n".join([*said, f"Next: optbench report --results {shlex.quote(results)}"]))
    return 0, facts


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
    what = f"{count(len(rows), 'cell')} in {count(len(tidy), 'line')}"
    print(f"Wrote {to}: {what}. docs/import.md describes the columns.")
    return 0, {"file": to, "cells": len(rows), "lines": len(tidy)}


def keep(rows: Sequence[dict[str, Any]], results: str, sheet: Sheet) -> Store:
    """Write rows to a results folder; UserError if it has own runs of one of their tasks and optimizers."""
    store = Store(results)
    taken = {(each["task"], each["optimizer"]) for each in rows}
    if own := sorted(taken & store.pairs()):
        raise UserError(
            f"{results!r} has runs of its own of {own[0][1]} on {own[0][0]}. Import into another folder with --results."
        )
    store.prepare()
    store.put(packed(rows), IMPORTED)
    return store


def as_text(scores: Frame) -> list[str]:
    """A line for each submission, best first: its score with the intervals over studies and over workloads."""
    rows = [
        (
            row["optimizer"],
            "{score:.4f} [{low:.3f}, {high:.3f}]".format(**row),
            "[{low_tasks:.3f}, {high_tasks:.3f}]".format(**row),
            f"{row['solved']:.0f}", f"{row['fastest']:.0f}",
        )
        for row in scores.to_dict("records")
    ]  # fmt: skip
    header = ("submission", "score [over studies]", "over workloads", "solved", "fastest")
    return columns([header, *rows]).splitlines()
