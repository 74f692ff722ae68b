"""A comparison from its options to its result: check, tune, look after each batch of fresh seeds."""

from __future__ import annotations

import contextlib
import datetime
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optbench.execute.order import Order
from optbench.execute.request import Request, check_numbers, learning_rates
from optbench.fields import UserError, grid
from optbench.task import Task
from optbench.tasks.renamed import Renamed, hidden
from optbench.versus import UNKNOWN, Comparison, Try, line
from optbench.versus.sides import BudgetSpent, Part, Runner, Side
from optbench.wording import count

ALPHA = 0.05
"""The probability that any verdict of a run is false, over all its tasks and looks."""
TUNING = range(4)
"""Seeds that choose the learning rate; those after them are fresh."""
PER_DECADE = 2
"""Learning rates in a decade, over the ranges of both sides."""


def play(options: Try, say: Callable[[str], None]) -> Comparison:
    """Everything; `say` gets a line for each look."""
    begun = time.monotonic()
    deadline = begun + seconds(options.budget)
    check_numbers(1.0, **{"max-seeds": options.max_seeds})
    if not 1 < options.margin < math.inf or options.max_seeds < 2:
        raise UserError("--margin is a ratio of losses above 1, such as 1.01, and --max-seeds at least 2.")
    with contextlib.ExitStack() as stack:
        both = (Side.of(options.x, stack), Side.of(options.against, stack))
        order = Order.of(requested(options, both))
        for task in order.suite.tasks:
            if not task.seeded:
                raise UserError(f"task {task.label()} has no randomness. Compare one run with: optbench run")
        uses = register(order.request.results, both) if options.final else 0
        tasks = {hidden(task, uses) if uses else task: UNKNOWN for task in order.suite.tasks}
        facts = {"error_rate": ALPHA * 0.5**uses, "margin": options.margin, "final_uses": uses}
        runner, ended = Runner(order, deadline), False
        stack.callback(runner.pool.end)
        try:
            look(runner, both, tasks, options, facts, say)
        except BudgetSpent:
            ended = True
    found = [{"task": task.label(), **data} for task, data in tasks.items()]
    facts |= {"budget_ended": ended, "seconds": time.monotonic() - begun, "tasks": found}
    return Comparison({"x": both[0].label, "against": both[1].label, **facts})


def seconds(budget: str | float) -> float:
    """Of `60`, `60s`, `5m` or `1h`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(budget).strip())
    if found is None or not float(found[1]):
        raise UserError(f"--budget {budget!r} is not a time. Write 60s, 5m or 1h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def requested(options: Try, both: Sequence[Side]) -> Request:
    """What is checked and resolved as a run's request is."""
    optimizers: Any = tuple(dict.fromkeys(each.optimizer for each in both))
    offered = [name for name in optimizers[0].frameworks() if name in optimizers[-1].frameworks()]
    if not offered:
        text = (f"{each.label} is in {' and '.join(each.optimizer.frameworks())}" for each in both)
        raise UserError(f"{', '.join(text)}: they have no framework in common.")
    tasks: Any = options.tasks if isinstance(options.tasks, list | tuple) else (options.tasks,)
    results = str(Path(options.results) / "try")
    how = {"steps": options.steps, "framework": options.framework or offered[0], "jobs": options.jobs}
    return Request(opt=optimizers, task=tasks, results=results, vet=options.vet, **how)


def points(both: Sequence[Side], lr: Sequence[str] | None) -> tuple[float, ...]:
    """The learning rates that both sides are tried at: over the ranges of both, so that neither has its own."""
    if lr is not None:
        return tuple(learning_rates(lr))
    spans = [swept.metadata["sweep"] for each in both if (swept := each.optimizer.swept()) is not None]
    if not spans:
        return ()
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    return tuple(grid(low, high, round(PER_DECADE * math.log10(high / low)) + 1))


def register(folder: str, both: Sequence[Side]) -> int:
    """Count a use of the hidden tasks; how many there were with this one."""
    path = Path(folder) / "final.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        when = datetime.datetime.now().isoformat(timespec="seconds")
        print(when, *(side.label for side in both), sep="\t", file=file)
    return len(path.read_text(encoding="utf-8").splitlines())


def look(
    runner: Runner,
    both: Sequence[Side],
    tasks: dict[Task, dict[str, Any]],
    options: Try,
    facts: Mapping[str, Any],
    say: Callable[[str], None],
) -> None:
    """Choose rates, then run fresh seeds until every task is known or all seeds are run.

    BudgetSpent where the next seeds would take longer than is left.
    """
    from optbench.stats.comparison import choose, report
    from optbench.stats.sequence import looks

    rates = points(both, options.lr)
    spans = [(side, rates if side.optimizer.swept() else (None,)) for side in both]
    tried = [Part(side, task, span, TUNING) for task in tasks for side, span in spans]
    say(f"tuning: {count(max(1, len(rates)), 'rate')}, {len(TUNING)} seeds, {count(len(tasks), 'task')}")
    found = iter(runner.rows([part for part in tried if len(part.rates) > 1]))
    chosen = [choose(next(found) if len(part.rates) > 1 else None, part.rates) for part in tried]
    choices = {task: chosen[2 * i : 2 * i + 2] for i, task in enumerate(tasks)}
    names, share = [side.label for side in both], facts["error_rate"] / len(tasks)
    waiting, renamed, took = list(tasks), {}, 0.0
    for seeds in looks(options.max_seeds):
        began = time.monotonic()
        if began + took > runner.deadline:
            raise BudgetSpent
        fresh = range(TUNING.stop, TUNING.stop + seeds)
        parts = [
            Part(side, task, (choice["learning_rate"],), fresh)
            for task in waiting
            for side, choice in zip(both, choices[task], strict=True)
        ]
        # Beside the first look, the first side with renamed parameters, where its code is this process's.
        beside = [] if renamed or both[0].checkout or facts["final_uses"] else parts[::2]
        rows = runner.rows([*parts, *(part._replace(task=Renamed(inner=part.task)) for part in beside)])
        renamed |= {part.task: rows[len(parts) + i] for i, part in enumerate(beside)}
        for i, task in enumerate(waiting):
            pair = rows[2 * i : 2 * i + 2]
            tasks[task] = report(names, pair, choices[task], renamed.get(task), share, facts["margin"])
            say(line(task.label(), tasks[task]))
        waiting = [task for task in waiting if tasks[task]["verdict"] == UNKNOWN["verdict"]]
        if not waiting:
            break
        took = time.monotonic() - began
