"""`optbench try X --against Y`: is a changed optimizer better, worse, the same, or can nobody tell yet?

Both sides get the same learning rates on the same tuning seeds, so that equal code chooses equally. Then each runs at
its chosen rate with fresh seeds, paired by first parameters and batches, until `stats.sequence` knows or the budget
ends. docs/agents.md describes exit codes, JSON and honest use.
"""

from __future__ import annotations

import datetime
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optbench import catalogue
from optbench.execute.devices import resolve
from optbench.execute.order import Order, workers
from optbench.execute.request import Request, check_numbers, check_offered, check_runs, learning_rates, parsed
from optbench.execute.vet import vet
from optbench.fields import UserError, grid
from optbench.suite import Suite
from optbench.task import Task
from optbench.tasks.renamed import Renamed, hidden
from optbench.versus.runner import Part, Runner
from optbench.versus.sides import BudgetSpent, Side, sides

if TYPE_CHECKING:
    import pandas as pd

    from optbench.stats.paired import Choice
    from optbench.stats.sequence import Estimate

TASKS = "mlp[width=32],xor_rnn[length=8,units=16,batch=32]"
"""What is tried unless tasks are given: two small networks, 5 seconds of a core for a side and 50 seeds."""
ALPHA = 0.05
"""The probability that any verdict of a run is false, over all tasks and looks together."""
TUNING_SEEDS = 4
"""Seeds that choose the learning rate; the next ones are fresh."""
PER_DECADE = 2
"""Learning rates in a decade, over the ranges of both sides."""
EXIT = {"better": 0, "worse": 1, "equivalent": 3, "identical": 3, "cannot tell yet": 4, "mixed": 5}
"""Exit codes by verdict; 2 is an error of the user's."""


@dataclass
class Match:
    """One task: what both sides chose, and what their fresh seeds say so far."""

    task: Task
    sides: tuple[Side, Side]
    alpha: float
    margin: float
    choices: tuple[Choice, ...] = ()
    rows: tuple[pd.DataFrame, ...] = ()
    renamed: pd.DataFrame | None = None

    @cached_property
    def logs(self) -> tuple[Any, ...]:
        """log10 of each fresh seed's loss, for both sides."""
        from optbench.stats.paired import log_losses

        return tuple(map(log_losses, self.rows))

    @cached_property
    def known(self) -> Estimate | None:
        """The sequence after the last look; nothing before the first."""
        from optbench.stats.sequence import estimate

        return estimate(self.logs[0] - self.logs[1], self.alpha) if self.rows else None

    @cached_property
    def verdict(self) -> str:
        """Of this task."""
        from optbench.stats.paired import same_bits
        from optbench.stats.sequence import verdict

        if self.known is None:
            return "cannot tell yet"
        return verdict(self.known, same_bits(*self.rows), self.margin)

    def look(self, rows: Sequence[pd.DataFrame]) -> None:
        """Take more seeds."""
        for name in ("logs", "known", "verdict"):
            self.__dict__.pop(name, None)
        self.rows = tuple(rows)


@dataclass
class Comparison:
    """What a comparison found."""

    x: str
    against: str
    matches: list[Match]
    margin: float
    alpha: float
    seconds: float
    hidden: int = 0
    """How often `--final` was used with this store, this time included; 0: it was not."""
    spent: bool = False
    """Whether the budget ended before all was known."""
    metric: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Over all tasks."""
        from optbench.stats.sequence import overall

        return overall([match.verdict for match in self.matches])

    @property
    def exit_code(self) -> int:
        """See docs/agents.md."""
        return EXIT[self.verdict]

    def data(self) -> dict[str, Any]:
        """As JSON data; docs/agents.md has the schema."""
        from optbench.versus.words import data

        return data(self)

    def __str__(self) -> str:
        from optbench.versus.words import text

        return text(self)


def compare(
    x: Any,
    against: Any,
    tasks: Any = (TASKS,),
    *,
    lr: Sequence[str | float] | None = None,
    steps: int | None = None,
    framework: str | None = None,
    budget: str | float = 60.0,
    margin: float = 1.01,
    max_seeds: int = 200,
    final: bool = False,
    results: str = "results",
    jobs: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Whether an optimizer is better than another, with known error rates; the options are those of `optbench try`.

    Raises:
        UserError: something that was asked for cannot be done, or a program failed.
    """
    begun = time.monotonic()
    deadline = begun + seconds(budget)
    check_numbers(1.0, steps=steps, jobs=jobs, **{"max-seeds": max_seeds})
    if not (isinstance(margin, int | float) and 1 < margin < math.inf):
        raise UserError(f"--margin {margin!r} is not a ratio of losses above 1, such as 1.01.")
    chosen = parsed("task", tasks if isinstance(tasks, list | tuple) else (tasks,), catalogue.task) or ()
    folder = Path(results) / "try"
    with sides(x, against) as both:
        suite, order = prepare(both, chosen, steps, framework, str(folder), jobs)
        rates = points(both, lr)
        uses, alpha = (register(folder, both), ALPHA) if final else (0, ALPHA)
        alpha *= 0.5**uses
        shown = [hidden(task, uses) if final else task for task in suite.tasks]
        matches = [Match(task, (both[0], both[1]), alpha / len(shown), margin) for task in shown]
        runner = Runner(order, deadline)
        try:
            spent = not play(runner, matches, rates, max_seeds, say)
        except BudgetSpent:
            spent = True
        finally:
            runner.workers.close()
    done = time.monotonic() - begun
    return Comparison(both[0].label, both[1].label, matches, margin, alpha, done, uses, spent)


def seconds(budget: str | float) -> float:
    """`60`, `60s`, `5m`, `1h`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(budget).strip())
    if found is None or not float(found[1]):
        raise UserError(f"--budget {budget!r} is not a time. Write 60s, 5m or 1h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def prepare(
    both: Sequence[Side],
    tasks: Sequence[Task],
    steps: int | None,
    framework: str | None,
    results: str,
    jobs: int | None,
) -> tuple[Suite, Order]:
    """The suite of both sides and the order that it is run by; UserError where they cannot be compared."""
    optimizers = tuple(dict.fromkeys(each.optimizer for each in both))
    offered = [name for name in both[0].optimizer.frameworks() if name in both[1].optimizer.frameworks()]
    suite = Suite(
        "try", tuple(tasks), optimizers, framework=framework or (offered or ["jax"])[0], steps=steps
    )
    for optimizer in optimizers:
        check_offered(suite, optimizer)
    for task in tasks:
        check_runs(suite, task)
        task.data_hash()
        if not task.seeded:
            raise UserError(
                f"task {task.label()} has no randomness: its one run is compared by: optbench run"
            )
    device = resolve("auto", suite.framework)
    count = workers(jobs, device)
    request = Request(suite=suite.name, results=results, jobs=jobs)
    vet([*optimizers, *tasks], [suite.framework], count, request.timeout)
    return suite, Order(request, suite, (), device, count)


def points(both: Sequence[Side], lr: Sequence[str | float] | None) -> tuple[float, ...]:
    """The learning rates that both sides are tried at."""
    if lr is not None:
        return tuple(learning_rates(lr))
    spans = [span for each in both if (span := each.span()) is not None]
    if not spans:
        return ()
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    return tuple(grid(low, high, round(PER_DECADE * math.log10(high / low)) + 1))


def register(folder: Path, both: Sequence[Side]) -> int:
    """Count one more use of the hidden tasks; how many that makes."""
    path = folder / "final.tsv"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(
            "\t".join([datetime.datetime.now().isoformat(timespec="seconds"), *(s.label for s in both)])
            + "\n"
        )
    return len(path.read_text(encoding="utf-8").splitlines())


def play(
    runner: Runner, matches: list[Match], rates: tuple[float, ...], most: int, say: Callable[[str], None]
) -> bool:
    """Tune, then run fresh seeds until every task is known or `most` are run; False where the time would not do."""
    from optbench.stats.paired import choose
    from optbench.stats.sequence import LEAST, looks
    from optbench.versus.words import line

    say(f"tuning: {len(rates) or 1} learning rates, {TUNING_SEEDS} seeds, {len(matches)} tasks")
    tried = [
        Part(side, match.task, side.points(rates), range(TUNING_SEEDS))
        for match in matches
        for side in match.sides
    ]
    found = iter(runner.rows(tried))
    for match in matches:
        match.choices = tuple(choose(next(found), side.points(rates)) for side in match.sides)
    waiting, took = list(matches), 0.0
    for count in looks(most):
        began = time.monotonic()
        if began + took > runner.deadline:
            return False
        fresh = range(TUNING_SEEDS, TUNING_SEEDS + count)
        parts = [
            Part(side, match.task, (choice.rate,), fresh)
            for match in waiting
            for side, choice in zip(match.sides, match.choices, strict=True)
        ]
        beside = renamings(waiting) if count == min(LEAST, most) else []
        rows = runner.rows([*parts, *beside])
        for i, match in enumerate(waiting):
            match.look(rows[2 * i : 2 * i + 2])
            say(line(match))
        by_task = dict(zip((part.task for part in beside), rows[len(parts) :], strict=True))
        for match in waiting:
            match.renamed = by_task.get(Renamed(inner=match.task), match.renamed)
        waiting = [match for match in waiting if match.verdict == "cannot tell yet"]
        if not waiting:
            return True
        took = time.monotonic() - began
    return True


def renamings(matches: Sequence[Match]) -> list[Part]:
    """The first side with renamed parameters on the tuning seeds that chose its learning rate."""
    return [
        Part(
            match.sides[0],
            Renamed(inner=match.task),
            (match.choices[0].rate,),
            range(TUNING_SEEDS, TUNING_SEEDS + 6),
        )
        for match in matches
        if match.sides[0].checkout is None and not isinstance(match.task, Renamed)
    ]
