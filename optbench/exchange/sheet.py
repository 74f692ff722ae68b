"""A CSV file as columns of text that were checked, and rows of it; what is wrong with it is a sentence with its line.

Rows are of the record format but were not run here; they carry their question, and never count as stored for `run`.
"""

from __future__ import annotations

import csv
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optbench.cell import FORMAT, PRECISIONS, Status
from optbench.fields import UserError, digest, shortened
from optbench.record import IMPORTED, Question
from optbench.task import Target
from optbench.wording import FORMULA

SETTING = {
    "schedule": "constant", "framework": IMPORTED, "dtype": "float32", "precision": PRECISIONS[0],
    "device_kind": IMPORTED,
}  # fmt: skip
"""Columns that keep runs apart, with what they are unless a file says it."""
NAME = 200
"""Characters of a name."""
LARGEST = 1e12
"""Of a time or a number of steps: what is above is an error of units."""


class Sheet:
    """Columns of text, all of one length, of a file that is imported as its `kind`: algoperf or csv."""

    def __init__(self, kind: str, path: str):
        """UserError if it is no CSV file with a header and a row."""
        self.kind, self.name = kind, (name := Path(path).name)
        try:
            text = Path(path).read_text("utf-8-sig")
            reader = csv.reader(text.splitlines(keepends=True), strict=True)
            rows = [(reader.line_num, row) for row in reader if row]
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{name!r} is no CSV file in UTF-8: {error}. Save it as one.") from error
        if len(rows) < 2:
            raise UserError(f"{name!r} has no rows. It needs a header and a row; see docs/import.md")
        header = [each.strip() for each in rows[0][1]]
        if len(header) == 1 and (other := re.findall("[;\t]", header[0])):
            raise UserError(
                f"{name!r} has {other[0]!r} between its columns. Save it with commas, and points in numbers."
            )
        if twice := [each for each in header if header.count(each) > 1]:
            raise UserError(f"{name!r} has two columns {shortened(twice[0])}. Keep one.")
        for line, row in rows[1:]:
            if len(row) != len(header):
                raise UserError(
                    f"{name!r}, line {line}: {len(row)} values, and the header has {len(header)}. Fix the line."
                )
        values = zip(*(row for _, row in rows[1:]), strict=True)
        self.columns = {
            key: [each.strip() for each in column] for key, column in zip(header, values, strict=True)
        }
        self.lines = [line for line, _ in rows[1:]]
        """Where each row ends in the file."""
        self.code = digest({"text": text})[:8]
        """Eight hex digits of the content."""

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def needs(self, *names: str) -> None:
        if missing := [name for name in names if name not in self]:
            raise UserError(
                f"{self.name!r} has no column {missing[0]!r}; its columns are "
                f"{shortened(', '.join(self.columns))}. See docs/import.md"
            )

    def fail(self, row: int, name: str, why: str) -> UserError:
        return UserError(
            f"{self.name!r}, line {self.lines[row]}: {name} {shortened(self.columns[name][row])} {why}"
        )

    def names(self, name: str, default: str | None = None) -> list[str]:
        """A column of printable names; what an export escaped is itself again."""
        if name not in self and default is not None:
            return [default] * len(self)
        checked: dict[str, str] = {}
        for row, text in enumerate(self.columns[name]):
            if text in checked:
                continue
            if not (text or default is not None) or not text.isprintable() or len(text) > NAME:
                raise self.fail(row, name, f"is no name. A name has 1 to {NAME} printable characters.")
            if text.startswith(FORMULA):
                raise self.fail(row, name, "begins like a formula. Put an apostrophe before it.")
            escaped = text.startswith("'") and text[1:].startswith(FORMULA)
            checked[text] = text[1:] if escaped else text or str(default)
        return [checked[text] for text in self.columns[name]]

    def numbers(
        self,
        name: str,
        least: float = -math.inf,
        default: float | None = None,
        whole: bool = False,
        allowed: Callable[[int, float], bool] = lambda row, value: False,
        otherwise: str = "",
    ) -> np.ndarray:
        """A column of numbers from `least`; one that is not finite must be `allowed`, an empty one needs a default."""
        found = np.full(len(self), math.nan if default is None else default)
        for row, text in enumerate(self.columns.get(name, [])):
            if not text and default is not None:
                continue
            try:
                value = float(text)
            except ValueError:
                raise self.fail(row, name, "is not a number.") from None
            if not math.isfinite(value) and not allowed(row, value):
                raise self.fail(row, name, f"is not a finite number.{otherwise}")
            if value < least:
                raise self.fail(row, name, f"is less than {least:g}.")
            if whole and (value != int(value) or value > LARGEST):
                raise self.fail(row, name, "is not a whole number.")
            found[row] = value
        return found

    def same(self, values: Sequence[Any] | np.ndarray, groups: np.ndarray, name: str, of: str) -> None:
        """UserError where a column has two values within a group of rows, each of which is one `of`."""
        found: dict[int, str] = {}
        for row, (group, value) in enumerate(zip(groups.tolist(), values, strict=True)):
            if (kept := found.setdefault(group, str(value))) != str(value):
                why = f"differs from {shortened(kept)} on an earlier line of the same {of}."
                raise self.fail(row, name, why)

    def question(
        self, metric: str, steps: int, *targets: Target, unit: str = "", source: str = ""
    ) -> Question:
        """That a metric falls, to its targets if there are any."""
        return Question(
            selection=metric, score=metric, targets=targets, optimum=None, ceiling=1e10, unit=unit,
            source=source or self.name, seeded=True, toy=False, noisy=True, horizon=steps,
        )  # fmt: skip

    def row(
        self,
        names: Mapping[str, str],
        question: Question,
        at: Sequence[int] | np.ndarray,
        evaluations: Mapping[str, Any],
        *,
        seed: int,
        steps: int,
        status: str = Status.DONE,
        stage: str | None = None,
        losses: Sequence[float] | np.ndarray = (),
        hyperparameters: str = "",
        columns: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The columns of one run; `names` has its task, optimizer and, where they are known, those of `SETTING`.

        Its id follows from what tells it from other runs, so a file that is imported again replaces its rows. The code
        is a digest of the file: rows of two files do not enter one median.
        """
        setting, trial = {**SETTING, **names}, columns.get("trial")
        identity = {**setting, "seed": seed, "steps": steps, "trial": trial, "stage": stage}
        given: dict[str, Any] = {} if trial is None else {"learning_rate": trial}
        for part in filter(None, hyperparameters.split(", ")):
            name, _, given[name] = part.partition("=")
        own = {"origin": f"{IMPORTED}:{self.name}"}
        spec = {
            "task": {"name": setting["task"], **own},
            "optimizer": {**given, "name": setting["optimizer"], **own},
        }
        taken = float(max(at[-1], 1) if len(at) else steps)
        return {
            "format": FORMAT, "cell": digest({IMPORTED: identity}), "code": self.code, "spec": json.dumps(spec),
            IMPORTED: f"{self.kind} {self.name}", "mode": IMPORTED, "created": time.time(),
            **identity, "hyperparameters": hyperparameters or None, "question": question.text(),
            "status": str(status), "reason": "",
            "losses": np.asarray(losses, float), "steps_run": len(losses), "evaluation_steps": np.asarray(at, np.int64),
            **{f"evaluation.{name}": np.asarray(values, float) for name, values in evaluations.items()},
            "gradients": taken, "hvps": 0.0, "values": 0.0, "gradient_equivalents": taken, **columns,
        }  # fmt: skip
