"""`optbench try X --against Y`: is a changed optimizer better, worse, the same, or can nobody tell yet?

Both sides get the same learning rates on the same tuning seeds, so that equal code chooses equally. Then each runs at
its chosen rate with fresh seeds, paired by first parameters and batches, until `stats.sequence` knows or the budget
ends. docs/agents.md describes exit codes, JSON and honest use.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optbench.execute.request import Number, Text, Texts
from optbench.fields import UserError, nearest
from optbench.wording import columns, count, interval, number, shortened, terminal_width

TASKS = "mlp[width=32],xor_rnn[length=8,units=16,batch=32]"
"""What is tried unless tasks are given: two small networks."""
UNKNOWN = {"verdict": "cannot tell yet", "seeds": 0, "notes": []}
"""Of a task before its first look."""
EXIT = {"better": 0, "worse": 1, "equivalent": 3, "identical": 3, "cannot tell yet": 4, "mixed": 5}
"""Exit codes by verdict; 2 is an error."""
LEGEND = (
    "Medians over fresh seeds. again: share of resamples of the tuning seeds that choose the same rate. steps, "
    "seconds: to the higher of the two final losses. grads: gradient equivalents per step. kB: of a lane."
)
FIGURES = {
    "final_loss": "loss",
    "steps_to_equal_loss": "steps",
    "seconds_to_equal_loss": "seconds",
    "microseconds_per_step": "us/step",
    "gradients_per_step": "grads",
    "kilobytes_per_lane": "kB",
}
BESIDE, LABEL = 62, 18
"""Columns of text beside a label, and the least of a label."""


@dataclass(frozen=True)
class Try:
    """What to compare; the fields are those of `optbench try`."""

    x: str
    against: str
    """What it is compared with: mine.py:make, kron, 'adam[b2=0.99]', or one of them as a commit has it: kron@HEAD~1."""
    tasks: Texts = (TASKS,)
    """Such as mlp,xor_rnn or 'quadratic[noise=0.1]'."""
    lr: Texts = None
    """Learning rates that both are tried at, in place of a grid over the ranges of both."""
    steps: Number = None
    """Steps of every task, in place of its own horizon."""
    framework: Text = None
    """jax or torch; by default the first that offers both."""
    budget: str = "60s"
    """Time to stop after: 60s, 5m, 1h. What has finished is stored, and a longer run continues from it."""
    margin: float = 1.01
    """Losses are equivalent whose ratio lies within this."""
    max_seeds: int = 200
    """Fresh seeds to stop after."""
    final: bool = False
    """Use hidden tasks of the same kinds. Each use is counted and halves the error rate that is left."""
    results: str = "results"
    """The folder that results are kept in; those of `try` are in its folder try."""
    jobs: Number = None
    """Worker processes."""
    vet: bool = True
    """Check optimizers and tasks of your own first, once for each version of their code."""


@dataclass
class Comparison:
    """What a comparison found: data for JSON, and text for a terminal that says the same."""

    found: dict[str, Any]

    @property
    def verdict(self) -> str:
        """Over all tasks."""
        from optbench.stats.sequence import overall

        return overall([task["verdict"] for task in self.found["tasks"]])

    @property
    def exit_code(self) -> int:
        """As docs/agents.md lists them."""
        return EXIT[self.verdict]

    @property
    def data(self) -> dict[str, Any]:
        """As JSON data; docs/agents.md has the schema."""
        return {"verdict": self.verdict, **self.found}

    def __str__(self) -> str:
        found, width = self.found, terminal_width()
        room = max(LABEL, width - BESIDE)
        lines = [["task", "loss ratio", "seeds", "verdict"]]
        lines += [[shortened(task["task"], room), *outcome(task)] for task in found["tasks"]]
        certain = (
            f"Loss ratio: {found['x']} over {found['against']} after equal steps at the chosen learning rates, "
            "geometric mean over seeds. All intervals and verdicts hold together, at every look, with probability "
            f"{1 - found['error_rate']:.4g}."
        )
        if found["final_uses"]:
            certain += f" Hidden tasks, use {found['final_uses']}: each use halves the error rate."
        head = f"{found['x']} against {found['against']}: {self.verdict}"
        blocks = [head, columns(lines, left=4), textwrap.fill(certain, width)]
        known = [task for task in found["tasks"] if task["seeds"]]
        if known:
            blocks.append(columns([line for task in known for line in figures(task, found, room)], left=1))
            margins = (f"{number(task['margin_in_seed_sd'], 2)} on {task['task']}" for task in known)
            legend = f"{LEGEND} The margin of {found['margin']:g} in seed sd: {', '.join(margins)}."
            blocks.append(textwrap.fill(legend, width))
        notes = [f"{task['task']}: {note}" for task in known for note in task["notes"]]
        if found["budget_ended"]:
            notes.append("The budget ended. Run it again with a larger --budget: what is stored counts.")
        return "\n\n".join([*blocks, *(textwrap.fill(note, width) for note in notes)])


def outcome(task: Mapping[str, Any]) -> list[str]:
    """Ratio, seeds and verdict of a task."""
    verdict = task["verdict"]
    if not task["seeds"]:
        return ["-", "0", verdict]
    if verdict == UNKNOWN["verdict"]:
        needed = task["seeds_needed"]
        verdict += f", ~{needed:,} seeds" if math.isfinite(needed) else ", over 100,000 seeds"
    elif verdict == "equivalent" and task["direction"]:
        verdict = f"{task['direction']}, within the margin"
    return [
        interval(task["ratio"], task["ratio_low"], task["ratio_high"], beside=1),
        str(task["seeds"]),
        verdict,
    ]


def line(label: str, task: Mapping[str, Any]) -> str:
    ratio, seeds, verdict = outcome(task)
    return f"{label}: {count(int(seeds), 'seed')}, loss ratio {ratio}: {verdict}"


def figures(task: Mapping[str, Any], found: Mapping[str, Any], room: int) -> list[list[str]]:
    """A head with the task, and a line for each side."""
    lines = [[shortened(task["task"], room), "lr", "again", *FIGURES.values()]]
    for side in ("x", "against"):
        own, rate = task[side], task[side]["learning_rate"]
        start = [shortened(f"  {found[side]}", room), "-" if rate is None else number(rate)]
        lines.append([*start, f"{own['chosen_again']:.0%}", *(number(own[name]) for name in FIGURES)])
    return lines


def compare(x: Any, against: Any, *, say: Callable[[str], None] | None = None, **options: Any) -> Comparison:
    """Whether one optimizer, as text or as an object, is better than another, with a known error rate.

    The options are those of `optbench try`; `say` gets a line for each look.

    Raises:
        UserError: something that was asked for cannot be done, or a program failed.
    """
    from optbench.versus.play import play

    for name in options.keys() - Try.__dataclass_fields__.keys():
        raise UserError(f"optbench.compare has no option {name!r}. {nearest(name, Try.__dataclass_fields__)}")
    return play(Try(x, against, **options), say or (lambda line: None))
