"""Rows of the record format that were not run here; they carry their question, and never count as stored for `run`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optbench.cell import FORMAT, PRECISIONS, Status
from optbench.exchange.sheet import Sheet
from optbench.fields import UserError, digest
from optbench.record import IMPORTED, Question
from optbench.resultfile import packed
from optbench.store import Store

SETTING = {
    "schedule": "constant", "framework": IMPORTED, "dtype": "float32", "precision": PRECISIONS[0],
    "device_kind": IMPORTED,
}  # fmt: skip
"""Columns that keep runs apart, with what they are unless a file says it."""


def row(
    sheet: Sheet,
    names: Mapping[str, str],
    question: Question,
    at: Sequence[int] | np.ndarray,
    evaluations: Mapping[str, Any],
    *,
    seed: int,
    steps: int,
    status: str = Status.DONE,
    trial: float | None = None,
    stage: str | None = None,
    losses: Sequence[float] | np.ndarray = (),
    hyperparameters: Mapping[str, Any] | None = None,
    text: str = "",
    columns: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The columns of one run; `names` has its task, optimizer and, where they are known, those of `SETTING`.

    Its id follows from what tells it from other runs, so a file that is imported again replaces its rows. The code is
    a digest of the file: rows of two files do not enter one median.
    """
    setting = {**SETTING, **names}
    identity = {**setting, "seed": seed, "steps": steps, "trial": trial, "stage": stage}
    own = {"origin": f"{IMPORTED}:{sheet.name}"}
    spec = {
        "task": {"name": setting["task"], **own},
        "optimizer": {**(hyperparameters or {}), "name": setting["optimizer"], **own},
    }
    taken = float(max(at[-1], 1) if len(at) else steps)
    return {
        "format": FORMAT, "cell": digest({IMPORTED: identity}), "code": sheet.code, "spec": json.dumps(spec),
        IMPORTED: f"{sheet.kind} {sheet.name}", "mode": IMPORTED, "created": time.time(),
        **setting, "seed": seed, "steps": steps, "trial": trial, "stage": stage, "hyperparameters": text or None,
        "question": question.text(), "status": str(status), "reason": "",
        "losses": np.asarray(losses, float), "steps_run": len(losses), "evaluation_steps": np.asarray(at, np.int64),
        **{f"evaluation.{name}": np.asarray(values, float) for name, values in evaluations.items()},
        "gradients": taken, "hvps": 0.0, "values": 0.0, "gradient_equivalents": taken, **(columns or {}),
    }  # fmt: skip


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
