"""What a comparison found: data for JSON, and text for a terminal that says the same."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optbench.wording import columns, count, interval, number, shortened, terminal_width

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
BESIDE = 62
"""Columns of text beside a label."""


@dataclass
class Comparison:
    """The result of `optbench try`."""

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
        lines = [["task", "loss ratio", "seeds", "verdict"]]
        lines += [[shortened(task["task"], width - BESIDE), *outcome(task)] for task in found["tasks"]]
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
            blocks.append(columns([line for task in known for line in figures(task, found, width)], left=1))
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
    return [interval(task["ratio"], task["ratio_low"], task["ratio_high"]), str(task["seeds"]), verdict]


def line(label: str, task: Mapping[str, Any]) -> str:
    ratio, seeds, verdict = outcome(task)
    return f"{label}: {count(int(seeds), 'seed')}, loss ratio {ratio}: {verdict}"


def figures(task: Mapping[str, Any], found: Mapping[str, Any], width: int) -> list[list[str]]:
    """A head with the task, and a line for each side."""
    lines = [[shortened(task["task"], width - BESIDE), "lr", "again", *FIGURES.values()]]
    for side in ("x", "against"):
        own, rate = task[side], task[side]["learning_rate"]
        start = [shortened(f"  {found[side]}", width - BESIDE), "-" if rate is None else number(rate)]
        lines.append([*start, f"{own['chosen_again']:.0%}", *(number(own[name]) for name in FIGURES)])
    return lines
