"""Baselines of fingerprints: sorted text with its provenance on top, as .tsv, or as .json where a path ends so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from optbench import environment
from optbench.fields import UserError
from optbench.gate.fingerprint import Table, Value, least

COLUMNS = ("layer", "optimizer", "framework", "row", "what", "values")


def write(path: Path, table: Table, command: str) -> None:
    """One line for each leaf or quantity; `8=1.25~1e-7` is the number after step 8 and by how much it may differ."""
    provenance = [command, environment.provenance("jax", "optax", "torch", "numpy")]
    lines = sorted((*key, text_of(values)) for key, values in table.items())
    if path.suffix == ".json":
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = ",\n".join(json.dumps(dict(zip(COLUMNS, line, strict=True))) for line in lines)
        path.write_text(f'{{"provenance": {json.dumps(provenance)}, "rows": [\n{rows}\n]}}\n')
        return
    write_lines(path, provenance, [COLUMNS, *lines])


def write_lines(path: Path, heads: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Tab-separated lines under comments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = [*(f"# {head}" for head in heads), *("\t".join(line) for line in lines)]
    path.write_text("\n".join(text) + "\n")


def text_of(values: dict[int, Value]) -> str:
    """Twelve digits; a tolerance only where it is not the least."""
    return " ".join(
        f"{step}={value:.12g}" + ("" if tolerance == least(value) else f"~{tolerance:.2g}")
        for step, (value, tolerance) in values.items()
    )


def value_of(text: str) -> Value:
    value, _, tolerance = text.partition("~")
    return Value(float(value), float(tolerance) if tolerance else least(float(value)))


def read(path: Path) -> Table:
    """The table of a file."""
    try:
        if path.suffix == ".json":
            lines = [[row[name] for name in COLUMNS] for row in json.loads(path.read_text())["rows"]]
        else:
            body = [line for line in path.read_text().splitlines() if not line.startswith("#")]
            lines = [line.split("\t") for line in body[1:]]
        table: Table = {}
        for layer, optimizer, framework, row, what, text in lines:
            pairs = [part.split("=") for part in text.split()]
            table[layer, optimizer, framework, row, what] = {
                int(step): value_of(pair) for step, pair in pairs
            }
        return table
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"Cannot read baselines {str(path)!r}: {error}. Rewrite them with --update."
        ) from error
