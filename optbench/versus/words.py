"""What a comparison found, as text for a terminal and as JSON data."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from optbench.wording import columns, count, interval, listed, number, spoken

if TYPE_CHECKING:
    from optbench.versus import Comparison, Match

SCHEMA = 1
"""Counts up when a field of the JSON data changes its meaning or goes."""


def ratio(match: Match) -> str:
    """`1.32 [1.21, 1.45]`."""
    known = match.known
    return "-" if known is None else interval(*(10**end for end in (known.mean, known.low, known.high)))


def outcome(match: Match) -> str:
    """The verdict of a task, with what qualifies it."""
    known, said = match.known, match.verdict
    if known is None:
        return said
    if said in ("better", "worse") and known.within(match.margin):
        return f"{said}, within the margin"
    if said == "cannot tell yet":
        return f"{said}: {needed(match)}"
    return said


def needed(match: Match) -> str:
    """How many seeds it would take."""
    from optbench.stats.sequence import FAR, seeds_needed

    assert match.known is not None
    seeds = seeds_needed(match.known, match.margin, match.alpha)
    return f"about {seeds:,} seeds would do" if math.isfinite(seeds) else f"it would take over {FAR:,} seeds"


def line(match: Match) -> str:
    """One look at one task."""
    seeds = match.known.seeds if match.known else 0
    return f"{match.task.label()}: {count(seeds, 'seed')}, loss ratio {ratio(match)}: {outcome(match)}"


def text(found: Comparison) -> str:
    """Everything, in lines that fit the terminal."""
    from optbench.stats.summary import terminal_width

    width = terminal_width()
    head = [["task", "loss ratio", "seeds", "verdict"]]
    rows = [
        [match.task.label(), ratio(match), str(match.known.seeds if match.known else 0), outcome(match)]
        for match in found.matches
    ]
    paragraphs = [f"{found.x} against {found.against}: {found.verdict}", columns([*head, *rows], left=4)]
    paragraphs += [textwrap.fill(sentence, width) for sentence in (meaning(found), *spread(found))]
    if any(match.rows for match in found.matches):
        paragraphs.append(sizes(found))
        paragraphs.append(textwrap.fill(LEGEND, width))
    paragraphs += [textwrap.fill(f"Note: {note}", width) for match in found.matches for note in notes(match)]
    if found.spent:
        more = "The budget ended; the same command with a larger --budget goes on from what is stored."
        paragraphs.append(textwrap.fill(more, width))
    return "\n\n".join(paragraphs)


LEGEND = (
    "At the chosen learning rates, medians over fresh seeds. lr again: the share of resamples of the tuning seeds that "
    "choose the same rate. steps, seconds: to the larger of the two final losses. grad/step: gradient equivalents. "
    "kB: parameters and state of a lane."
)


def meaning(found: Comparison) -> str:
    """What the intervals and verdicts say, and how often they are false."""
    tasks = "all tasks" if len(found.matches) > 1 else "the task"
    said = (
        f"Loss ratio: that of {found.x} over that of {found.against} after equal steps, at the chosen learning rates, the "
        f"geometric mean over seeds; below 1 is better. Intervals and verdicts of {tasks} hold together at every look "
        f"with probability {1 - found.alpha:.4g}, so stopping early costs nothing. "
        f"Equivalent: the interval lies within {1 / found.margin:.4g} and {found.margin:.4g}."
    )
    if found.hidden:
        said += (
            f" Hidden tasks, use {found.hidden} of this store: each use halves the error rate that is left."
        )
    return said


def spread(found: Comparison) -> Iterator[str]:
    """What the margin is beside the noise of seeds."""
    parts = [
        f"{match.task.label()}: {number(math.log10(found.margin) / its, 2)} (rho {rho(match):.2f})"
        for match in found.matches
        if match.rows and (its := seed_sd(match)) > 0
    ]
    if parts:
        yield f"The margin in standard deviations over seeds of {found.against}: {listed(parts)}."


def seed_sd(match: Match) -> float:
    """The standard deviation over seeds of log10 of the second side's loss."""
    return float(match.logs[1].std(ddof=1)) if match.rows else math.nan


def rho(match: Match) -> float:
    """The correlation of the two sides over seeds; 0 where one does not vary."""
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.nan_to_num(np.corrcoef(*match.logs)[0, 1]))


def sides_of(match: Match) -> list[dict[str, Any]]:
    """The figures of both sides."""
    from optbench.stats.paired import figures, final_loss

    target = max(map(final_loss, match.rows)) if match.rows else math.nan
    return [
        {
            "learning_rate": choice.rate,
            "choice_again": choice.again,
            "at_edge": choice.at_edge,
            **(figures(match.rows[i], target) if match.rows else {}),
        }
        for i, choice in enumerate(match.choices)
    ]


def sizes(found: Comparison) -> str:
    """A table of both sides on each task."""
    lines = [["task", "side", "lr", "lr again", "loss", "steps", "seconds", "us/step", "grad/step", "kB"]]
    keys = ("final_loss", "steps_to_equal_loss", "seconds_to_equal_loss", "microseconds_per_step")
    for match in found.matches:
        for name, side in zip((found.x, found.against), sides_of(match) if match.rows else [], strict=False):
            rate = "-" if side["learning_rate"] is None else number(side["learning_rate"])
            rest = (side[key] for key in (*keys, "gradients_per_step", "kilobytes_per_lane"))
            cells = [match.task.label(), name, rate, f"{side['choice_again']:.0%}", *map(number, rest)]
            lines.append(cells)
    return columns(lines)


def notes(match: Match) -> Iterator[str]:
    """What weakens the verdict of a task, a sentence each."""
    from optbench.stats.paired import diverged, metric_of, moved, stands_still, starts_apart

    if not match.rows:
        return
    on, names = f"on {match.task.label()}", [side.label for side in match.sides]
    sides = sides_of(match)
    for name, rows, side, choice in zip(names, match.rows, sides, match.choices, strict=True):
        if stands_still(rows):
            yield f"{name} does not move the parameters {on}."
        if choice.at_edge:
            rate = number(choice.rate or 0.0)
            yield f"{name} is tuned to {rate} {on}, the edge of the rates: give others with --lr."
        if lost := diverged(rows):
            yield f"{name} diverged {on} in {lost} of {count(len(rows), 'seed')}; they count as the first loss."
    costs = [side["gradients_per_step"] for side in sides]
    if max(costs) > 1.02 * min(costs):
        yield f"A step takes {listed([f'{c:.2g} ({n})' for c, n in zip(costs, names, strict=True)])} gradients {on}."
    if starts_apart(*match.rows):
        yield f"The first losses of the two sides differ {on}, so their seeds are no pairs."
    if match.renamed is not None:
        seeds = match.rows[0]["seed"].isin(match.renamed["seed"])
        by = moved(match.renamed, match.rows[0][seeds].reset_index(drop=True))
        if by is not None:
            yield (
                f"{names[0]} gives another {spoken(metric_of(match.rows[0]))} {on} when the parameters are renamed: "
                f"{number(10**by)} times."
            )


def data(found: Comparison) -> dict[str, Any]:
    """As JSON data; docs/agents.md has the schema."""
    return finite(
        {
            "schema": SCHEMA,
            "x": found.x,
            "against": found.against,
            "verdict": found.verdict,
            "exit_code": found.exit_code,
            "error_rate": found.alpha,
            "margin": found.margin,
            "final_uses": found.hidden,
            "budget_ended": found.spent,
            "seconds": found.seconds,
            "tasks": [task(match) for match in found.matches],
        }
    )


def task(match: Match) -> dict[str, Any]:
    """One task as JSON data."""
    from optbench.stats.paired import metric_of
    from optbench.stats.sequence import seeds_needed

    known, said = (
        match.known,
        {"task": match.task.label(), "verdict": match.verdict, "error_rate": match.alpha},
    )
    if known is None:
        return said
    return said | {
        "metric": metric_of(match.rows[0]),
        "within_margin": known.within(match.margin),
        "seeds": known.seeds,
        "seeds_needed": seeds_needed(known, match.margin, match.alpha),
        "ratio": 10**known.mean,
        "ratio_low": 10**known.low,
        "ratio_high": 10**known.high,
        "seed_sd": seed_sd(match),
        "rho": rho(match),
        "margin_in_seed_sd": math.log10(match.margin) / (seed_sd(match) or math.nan),
        "steps": int(match.rows[0]["steps"].iloc[0]),
        "x": sides_of(match)[0],
        "against": sides_of(match)[1],
        "notes": list(notes(match)),
    }


def finite(value: Any) -> Any:
    """JSON has no infinity: what is not finite is null."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
