"""Layers 0, 2 and 3: what an optimizer does in 32 steps of a tiny tree, over seeds, and what that costs.

0. fingerprint: for each option row, a weighted sum of each leaf after 1, 2, 4, .. 32 steps in float64. The learning
   rate and the first parameters, moved by a rounding, give the tolerance: `AMPLIFIED` times the largest change that
   they make, or the least.
2. distribution: where an optimizer draws, the mean loss over seeds; other seeds must give the same within
   `DEVIATIONS` standard errors of the difference.
3. cost: gradients and Hessian-vector products, bytes of state, compiled programs for five learning rates, and the
   processor time of a step relative to adam's in the same process.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from optbench import catalogue, environment, origin
from optbench.cell import Status, Trace
from optbench.execute.worker import ENGINES, reason
from optbench.fields import UserError
from optbench.gate.rows import STEPS, Row, rows
from optbench.optimizer import Optimizer
from optbench.optimizers.adapter import Standard
from optbench.optimizers.foreign import Foreign

LAYERS = ("fingerprint", "trajectory", "distribution", "cost")
LEAST = 1e-9
"""The least difference that counts, in units of one plus the number's size."""
DRAWN = 2e-7
"""The same where PyTorch draws: its normal numbers are float32, and their last digits depend on the instruction set."""
TWINS = (1 + 2.0**-51, 1 - 2.0**-51, 1 + 2.0**-48)
AMPLIFIED = 30.0
CHAOS = 1e-8
"""A number that roundings move by more is not compared: it is a basis of a null space, or the like."""
SEEDS = 12
DEVIATIONS = 6.0
TURNS = 4
"""How often each of the two is timed, in turn; the best counts, since what else a machine does only adds to a time."""
SLOWER = 1.0
"""By how many times itself, or adam's, the relative time of a step may grow; on a busy machine it does by a third."""


class Value(NamedTuple):
    """A number, and by how much another run's may differ from it."""

    value: float
    tolerance: float


def least(value: float, floor: float = LEAST) -> float:
    return floor * (1 + abs(value))


Key = tuple[str, str, str, str, str]
"""Layer, optimizer, framework, row, and what: a leaf, or a quantity."""
Values = dict[int, Value]
"""A number after some steps."""
Table = dict[Key, Values]


def measure(
    optimizer: Optimizer, framework: str, twins: bool = False, first_seed: int = 1, part: int = 0, of: int = 1
) -> Table:
    """The numbers of an optimizer in one framework, of every so many rows; with measured tolerances, if `twins`."""
    table: Table = {}
    for row in [row for row in rows(optimizer) if row.framework == framework][part::of]:
        table |= measure_row(optimizer.label(), row, twins, first_seed)
    return table


def measure_row(name: str, row: Row, twins: bool = False, first_seed: int = 1) -> Table:
    """The numbers of one row; what it raises is a number that nothing equals."""
    draws = getattr(row.optimizer, "draws", not isinstance(row.optimizer, Standard))
    floor = DRAWN if draws and row.framework == "torch" else LEAST
    cells = [row.cell(1.0 + lane, lane) for lane in range(row.lanes)]
    cells += [row.cell(factor) for factor in TWINS if twins and row.optimizer.swept() is not None]
    spreads = row.name == "defaults" and draws and not isinstance(row.optimizer, Foreign)
    first, seeds = len(cells), SEEDS if spreads else 0
    cells += [row.cell(1.0, first_seed + k) for k in range(seeds)]
    key = (name, row.framework, row.name)
    try:
        run = ENGINES[row.framework]("cpu").run
        traces = run(cells, row.mode)
        nudged = dataclasses.replace(row.cell(), task=dataclasses.replace(row.task, nudged=True))
        others = run([nudged], row.mode) if twins else []
    except Exception as error:
        return {("fingerprint", *key, f"error: {reason(error)}"): {}}
    table: Table = {}
    for lane in range(row.lanes):
        found = leaves(traces[lane], others + traces[row.lanes : first] if lane == 0 else [], floor)
        losses = enumerate(traces[lane].losses.tolist(), 1)
        seen = (1, 2, 8, STEPS) if row.task.varied else (1, 2)
        found["loss"] = {step: Value(loss, least(loss, floor)) for step, loss in losses if step in seen}
        for leaf, values in found.items():
            table["fingerprint", *key, leaf if lane == 0 else f"{leaf} of lane {lane}"] = values
    if seeds:
        table["distribution", *key, "mean loss"] = spread(traces[first:])
    return table | {("cost", *key, what): {STEPS: value} for what, value in cost(row, traces).items()}


def leaves(trace: Trace, twins: list[Trace], floor: float) -> dict[str, Values]:
    """Each leaf's number after each step that is looked at, up to the first at which roundings decide one of them.

    The loss couples the leaves: what is rounding's in one of them is so in all, some steps later.
    """
    found: dict[str, Values] = {leaf: {} for leaf in trace.evaluations}
    for i, step in enumerate(trace.evaluation_steps.tolist()):
        decided = False
        for leaf, values in trace.evaluations.items():
            value = float(values[i])
            others = [t.evaluations[leaf][i] if i < len(t.evaluations[leaf]) else math.nan for t in twins]
            moved = max((abs(float(other) - value) for other in others), default=0.0)
            if step and not moved <= CHAOS * (1 + abs(value)) and math.isfinite(value):
                decided = True
            elif step:
                found[leaf][step] = Value(value, max(least(value, floor), AMPLIFIED * moved))
        if decided:
            break
    if trace.status is not Status.DONE:
        found["diverged"] = {len(trace.losses): Value(1.0, 0.0)}
    return found


def spread(traces: list[Trace]) -> Values:
    """The mean loss over seeds at some steps, with its standard error; nothing where no seed changes it."""
    import numpy as np

    losses = np.stack([np.resize(trace.losses, STEPS) for trace in traces])
    errors = losses.std(axis=0, ddof=1) / math.sqrt(len(losses))
    steps = [step for step in (8, 16, 32) if errors[step - 1] > 0]
    return {step: Value(float(losses[:, step - 1].mean()), float(errors[step - 1])) for step in steps}


def cost(row: Row, traces: list[Trace]) -> dict[str, Value]:
    """Bytes of state, and how many numbers the optimizer says that it keeps.

    Of the defaults also what 32 steps ask for, and their processor time over that of adam.
    """
    declared = row.optimizer.state_floats(row.task.shapes())
    exact = {"bytes": traces[0].facts["state_bytes"]} | ({} if declared is None else {"declared": declared})
    found: dict[str, Value] = {}
    if row.name == "defaults":
        run, warm = ENGINES[row.framework]("cpu").run, {}
        adam = Row("adam", catalogue.optimizer("adam"), row.framework, row.schedule, row.mode)
        both = [[each.cell(seed=k) for k in range(3)] for each in (row, adam)]
        turns = [[step_seconds(run(cells, row.mode, warm=warm)) for cells in both] for _ in range(TURNS)]
        ratio = min(mine for mine, _ in turns) / min(its for _, its in turns)
        found["time"] = Value(ratio, SLOWER * max(ratio, 1.0))
        counts, rates = traces[0].counts, {row.cell(1.0 + k).program_key() for k in range(5)}
        exact |= {"gradients": counts.gradients, "products": counts.hvps, "programs": len(rates)}
    return found | {what: Value(float(value), 0.0) for what, value in exact.items()}


def step_seconds(traces: list[Trace]) -> float:
    return traces[0].facts["program_cpu_seconds"] / (STEPS * len(traces))


def in_worker(packed: Mapping[str, Any], **how: Any) -> list[Any]:
    """The table of a packed optimizer, as JSON data; the others are those of `measure`."""
    table = measure(origin.unpack(packed), **how)
    return [[*key, {str(step): value for step, value in values.items()}] for key, values in table.items()]


# --- comparing ----------------------------------------------------------------------------------------------


class Difference(NamedTuple):
    """What differs first in one row of one layer, and how much of it."""

    layer: str
    optimizer: str
    framework: str
    row: str
    sentence: str


def compare(old: Table, new: Table) -> list[Difference]:
    """What differs, for each row: the leaf and the first step, and how many leaves."""
    found = []
    for row in sorted({key[:4] for key in old} | {key[:4] for key in new}):
        before, after = ({k[4]: v for k, v in table.items() if k[:4] == row} for table in (old, new))
        if not before or not after:
            raised = [what for what in {**before, **after} if what.startswith("error")]
            gone = "is not measured any more" if before else "is not in the baseline"
            found.append(Difference(*row, "; ".join([gone, *raised])))
            continue
        moved = list(filter(None, (differs(row[0], before, after, what) for what in {**before, **after})))
        if moved:
            _, sentence = min(moved)
            others = f"; {len(moved)} of {len(before)} differ" if len(before) > 1 else ""
            found.append(Difference(*row, sentence + others))
    return found


def differs(
    layer: str, before: dict[str, Values], after: dict[str, Values], what: str
) -> tuple[int, str] | None:
    """The first step at which something differs, and a sentence; None where nothing does."""
    if what not in before or what not in after:
        return 0, what if what not in before else f"{what} is missing"
    for step, (value, tolerance) in sorted(before[what].items()):
        if step not in after[what]:
            return step, f"{what} is missing after step {step}"
        new, error = after[what][step]
        allowed = DEVIATIONS * math.hypot(tolerance, error) if layer == "distribution" else tolerance
        slower = layer == "cost" and what == "time" and new < value
        if abs(new - value) <= allowed or slower or (math.isnan(new) and math.isnan(value)):
            continue
        at = f" after step {step}" if layer != "cost" else ""
        return step, f"{what}{at}: {value:.10g} -> {new:.10g} (allowed {allowed:.1g})"
    return None


# --- files --------------------------------------------------------------------------------------------------

COLUMNS = ("layer", "optimizer", "framework", "row", "what", "values")


def write(path: Path, table: Table, command: str) -> None:
    """Sorted text with its provenance on top, as .tsv, or as .json where the path ends so.

    One line for each leaf or quantity; `8=1.25~1e-7` is the number after step 8 and by how much it may differ.
    """
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


def text_of(values: Values) -> str:
    """Twelve digits; a tolerance only where it is not the least."""
    return " ".join(
        f"{step}={value:.12g}" + ("" if tolerance == least(value) else f"~{tolerance:.2g}")
        for step, (value, tolerance) in values.items()
    )


def value_of(text: str) -> Value:
    value, _, tolerance = text.partition("~")
    return Value(float(value), float(tolerance) if tolerance else least(float(value)))


def read(path: Path) -> Table:
    try:
        if path.suffix == ".json":
            lines = [[row[name] for name in COLUMNS] for row in json.loads(path.read_text())["rows"]]
        else:
            body = [line for line in path.read_text().splitlines() if not line.startswith("#")]
            lines = [line.split("\t") for line in body[1:]]
        table: Table = {}
        for layer, optimizer, framework, row, what, text in lines:
            pairs = [part.split("=") for part in text.split()]
            table[layer, optimizer, framework, row, what] = {int(t): value_of(each) for t, each in pairs}
        return table
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        raise UserError(
            f"Cannot read baselines {str(path)!r}: {why}. Delete the file, then write it with --update."
        ) from error
