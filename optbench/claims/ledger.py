"""results/claims/: one immutable JSON file for each measurement, written whole or not at all."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optbench import environment
from optbench.cell import FORMAT
from optbench.claims import Lookup, Measurement
from optbench.fields import UserError
from optbench.store import whole


@dataclass(frozen=True)
class Record:
    """A stored measurement."""

    path: Path
    numbers: dict[str, Any]
    facts: dict[str, Any]
    created: float


def lookup(records: Mapping[str, Record]) -> Lookup:
    """What finds the numbers of a measurement among records, by its id."""
    return lambda measurement: records[measurement.id].numbers if measurement.id in records else None


class Ledger:
    """The measurements of a results folder; the newest of each id counts."""

    def __init__(self, results: str | Path):
        self.folder = Path(results) / "claims"
        self.passed_over: dict[str, str] = {}
        """Files that could not be read, and why."""

    def records(self) -> dict[str, Record]:
        """The newest record of each measurement id."""
        found: dict[str, Record] = {}
        for path in sorted(self.folder.glob("[!.]*.json"), key=lambda path: path.name):
            try:
                data = json.loads(path.read_text())
                if data["format"] != FORMAT:
                    raise ValueError(f"of another record format than {FORMAT}")
                record = Record(path, data["numbers"], data["facts"], float(data["created"]))
                name = str(data["id"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                self.passed_over[path.name] = f"{type(error).__name__}: {error}"[:120]
                continue
            if name not in found or found[name].created <= record.created:
                found[name] = record
        return found

    def write(self, measurement: Measurement, numbers: Any, facts: Mapping[str, Any]) -> Record:
        """One new file."""
        created, facts = time.time(), {**environment.facts(), **facts}
        told = {"format": FORMAT, "id": measurement.id, **measurement.message()}
        name = f"{measurement.call.replace(':', '-')}-{measurement.id[:8]}-{time.time_ns():x}-{os.getpid():x}.json"
        path = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole(path) as temporary:
                record = {**told, "numbers": numbers, "facts": facts, "created": created}
                temporary.write_text(json.dumps(record, indent=1))
        except OSError as error:
            raise UserError(
                f"claims folder {str(self.folder)!r} cannot be written: {error.strerror}. Give another --results."
            ) from error
        return Record(path, numbers, facts, created)
