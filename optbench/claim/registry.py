"""Registers the rules: `python -m optbench.claim.registry RESULTS` writes claims/registered.tsv.

It adds the claims that have no row, removes those that are gone, and renews the digest of a changed rule whose verdict
on the stored numbers is still the registered one. A rule whose change turned its verdict keeps its row, so that every
page shows the old verdict beside the new one.
"""

from __future__ import annotations

import importlib.resources
import sys
from pathlib import Path

from optbench.claim import every
from optbench.claim.rules import CONTENT, TABLE, Registered, digest_of_rule, registered
from optbench.claim.session import Ledger

NONE = "not measured"


def rows(results: str | Path) -> list[Registered]:
    """The new table: a row for each claim, with its verdict on the numbers of a results folder."""
    records, found = Ledger(results).records(), []
    for asked in every():
        record, old = records.get(asked.measurement.id), registered().get(asked.name)
        verdict = NONE if record is None else str(asked.ruling(record.numbers).verdict)
        new = Registered(asked.name, digest_of_rule(asked.ruling), verdict)
        found.append(new if old is None or old.verdict in (verdict, NONE) else old)
    return found


if __name__ == "__main__":
    lines = ["\t".join(row) for row in (Registered._fields, *rows(sys.argv[1]))]
    Path(str(importlib.resources.files(CONTENT) / TABLE)).write_text("\n".join([*lines, ""]))
