"""A comparison from its options to its result: check, tune, look after each batch of fresh seeds."""

from __future__ import annotations

import datetime
import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optbench.execute.order import Order
from optbench.execute.request import Request, check_numbers, learning_rates
from optbench.fields import UserError, grid
from optbench.tasks.renamed import Renamed, hidden
from optbench.versus import Try
from optbench.versus.result import UNKNOWN, Comparison, line
from optbench.versus.sides import BudgetSpent, Part, Runner, Side, sides

ALPHA = 0.05
"""The probability that any verdict of a run is false, over all its tasks and looks."""
TUNING = range(4)
"""Seeds that choose the learning rate; those after them are fresh."""
PER_DECADE = 2
"""Learning rates in a decade, over the ranges of both sides."""


def play(options: Try, say: Callable[[str], None]) -> Comparison:
    begun = time.monotonic()
    deadline = begun + seconds(options.budget)
    check_numbers(1.0, **{"max-seeds": options.max_seeds})
    if not 1 < options.margin < math.inf or options.max_seeds < 2:
        raise UserError("--margin is a ratio of losses above 1, such as 1.01, and --max-seeds at least 2.")
    folder = Path(options.results) / "try"
    with sides(options.x, options.against) as both:
        order = Order.of(requested(options, both, str(folder)))
        for task in order.suite.tasks:
            if not task.seeded:
                raise UserError(
                    f"task {task.label()} has no randomness. Compare its one run with: optbench run"
                )
        rates = points(both, options.lr)
        uses = register(folder, both) if options.final else 0
        alpha = ALPHA * 0.5**uses
        data: dict[str, Any] = {
            "x": both[0].label,
            "against": both[1].label,
            "error_rate": alpha,
            "margin": options.margin,
            "final_uses": uses,
            "budget_ended": True,
            "tasks": {hidden(task, uses) if uses else task: UNKNOWN for task in order.suite.tasks},
        }
        runner = Runner(order, deadline)
        try:
            look(runner, both, data, rates, options.max_seeds, say)
            data["budget_ended"] = False
        except BudgetSpent:
            pass
        finally:
            runner.workers.close()
    data["tasks"] = [{"task": task.label(), **found} for task, found in data["tasks"].items()]
    return Comparison({**data, "seconds": time.monotonic() - begun})


def seconds(budget: str | float) -> float:
    """Of `60`, `60s`, `5m` or `1h`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(budget).strip())
    if found is None or not float(found[1]):
        raise UserError(f"--budget {budget!r} is not a time. Write 60s, 5m or 1h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def requested(options: Try, both: Sequence[Side], results: str) -> Request:
    """What is checked and resolved as a run's request is; learning rates that were set are no part of it."""
    optimizers: Any = tuple(dict.fromkeys(each.free for each in both))
    offered = [name for name in optimizers[0].frameworks() if name in optimizers[-1].frameworks()]
    framework = options.framework or (offered[0] if offered else None)
    tasks: Any = options.tasks if isinstance(options.tasks, list | tuple) else (options.tasks,)
    how = {"steps": options.steps, "framework": framework, "jobs": options.jobs, "results": results}
    return Request(opt=optimizers, task=tasks, **how)


def points(both: Sequence[Side], lr: Sequence[str] | None) -> tuple[float, ...]:
    """The learning rates that both sides are tried at: over the ranges of both, so that neither has its own."""
    if lr is not None:
        return tuple(learning_rates(lr))
    spans = [each.span for each in both if each.span]
    if not spans:
        return ()
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    return tuple(grid(low, high, round(PER_DECADE * math.log10(high / low)) + 1))


def register(folder: Path, both: Sequence[Side]) -> int:
    """Count a use of the hidden tasks; how many there were with this one."""
    path = folder / "final.tsv"
    with path.open("a", encoding="utf-8") as file:
        print(
            datetime.datetime.now().isoformat(timespec="seconds"),
            *(s.label for s in both),
            sep="\t",
            file=file,
        )
    return len(path.read_text(encoding="utf-8").splitlines())


def look(
    runner: Runner,
    both: Sequence[Side],
    data: dict[str, Any],
    rates: tuple[float, ...],
    most: int,
    say: Callable[[str], None],
) -> None:
    """Choose rates, then run fresh seeds until every task is known or `most` are run.

    Raises:
        BudgetSpent: the time is over, or the next batch would take longer.
    """
    from optbench.stats.paired import choose, report
    from optbench.stats.sequence import looks

    known = data["tasks"]
    say(f"tuning: {max(1, len(rates))} learning rates, {len(TUNING)} seeds, {len(known)} tasks")
    tried = [Part(side, task, side.rates(rates), TUNING) for task in known for side in both]
    chosen = [choose(rows, part.rates) for part, rows in zip(tried, runner.rows(tried), strict=True)]
    choices = {task: chosen[2 * i : 2 * i + 2] for i, task in enumerate(known)}
    renamed: dict[Any, Any] = {}
    names, took = [side.label for side in both], 0.0
    for count in looks(most):
        began = time.monotonic()
        if began + took > runner.deadline:
            raise BudgetSpent
        waiting = [task for task, found in known.items() if found["verdict"] == UNKNOWN["verdict"]]
        fresh = range(TUNING.stop, TUNING.stop + count)
        parts = [
            Part(side, task, (choice["learning_rate"],), fresh)
            for task in waiting
            for side, choice in zip(both, choices[task], strict=True)
        ]
        beside = [
            part._replace(task=Renamed(inner=part.task))
            for part in parts[::2]
            if not (renamed or part.side.checkout or isinstance(part.task, Renamed))
        ]
        rows = runner.rows([*parts, *beside])
        renamed |= {part.task.inner: rows[len(parts) + i] for i, part in enumerate(beside)}
        for i, task in enumerate(waiting):
            pair = rows[2 * i : 2 * i + 2]
            rate = data["error_rate"] / len(known)
            known[task] = report(names, pair, choices[task], renamed.get(task), rate, data["margin"])
            say(line(task.label(), known[task]))
        if all(found["verdict"] != UNKNOWN["verdict"] for found in known.values()):
            return
        took = time.monotonic() - began
