"""The goal table: what was wanted, what was measured, held or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tests.bench.clock import DISTURBED, Race

LOOPS = ("scan", "vmap")
"""The hand-written loops whose ratios stand beside the one that the goal is about."""

NOTE = f"""\
naive: a jitted optax step called from Python with float(loss). scan: a lax.scan written by hand, one
lane. vmap: that scan under vmap, all lanes. Ratios are of CPU time on one core: of the best turns,
and in brackets the median over rounds of turns taken one after the other. ~ took more than {DISTURBED:g}
times as long by the wall clock (a command: others took a tenth of the machine): then a number near
its goal says little. Run it again on a quiet machine."""


class Waited(NamedTuple):
    """Seconds by the wall clock, whether others computed meanwhile, and seconds of CPU where they are known."""

    wall: float
    disturbed: bool
    cpu: float | None = None


@dataclass(frozen=True)
class Goal:
    """One row."""

    what: str
    wanted: str
    measured: str
    held: bool
    beside: tuple[str, ...] = ("",) * len(LOOPS)


class Goals:
    """The rows of one run, in the order in which they were measured."""

    def __init__(self) -> None:
        self.rows: list[Goal] = []

    def faster(self, what: str, race: Race, than: str, least: float) -> None:
        """The race's first contestant is at least `least` times faster than another one."""
        best = race.ratio(than)
        beside = (times(race.ratio(name)) if name in race.seconds else "" for name in LOOPS)
        self.rows.append(
            Goal(
                what,
                f">= {least:.3g}x {than}",
                measured(race, than),
                best >= least,
                tuple(beside),
            )
        )

    def costs(self, what: str, race: Race, other: str, most: float) -> None:
        """Another contestant takes at most `most` times as long as the first."""
        ratio = race.ratio(other)
        self.rows.append(Goal(what, f"<= {most:g}x", measured(race, other), ratio <= most))

    def at_most(self, what: str, value: float, most: float, unit: str) -> None:
        """A number that must not be larger."""
        self.rows.append(Goal(what, f"<= {most:g}{unit}", f"{value:.3g}{unit}", value <= most))

    def at_least(self, what: str, value: float, least: float, unit: str) -> None:
        """A number that must not be smaller."""
        self.rows.append(Goal(what, f">= {least:g}{unit}", f"{value:.3g}{unit}", value >= least))

    def waited(self, what: str, found: Waited, most: float) -> None:
        """Somebody waits no longer than so many seconds."""
        used = "" if found.cpu is None else f" ({found.cpu:.3g} s CPU)"
        measured = f"{found.wall:.3g} s{used}" + "~" * found.disturbed
        self.rows.append(Goal(what, f"< {most:g} s", measured, found.wall < most))

    def table(self) -> str:
        """Text of at most 100 columns."""
        head = ("goal", "wanted", "measured", *LOOPS, "held")
        rows = [
            (goal.what, goal.wanted, goal.measured, *goal.beside, "yes" if goal.held else "NO")
            for goal in self.rows
        ]
        lines = list(aligned([head, *rows]))
        lines.insert(1, "-" * max(map(len, lines)))
        held = sum(goal.held for goal in self.rows)
        return "\n".join([*lines, "", f"{held} of {len(rows)} goals held.", NOTE])


def measured(race: Race, other: str) -> str:
    """The ratio of the best turns, the median in brackets, and a mark if others ran on this core."""
    return f"{times(race.ratio(other))} ({times(race.typical(other))})" + "~" * race.disturbed


def times(ratio: float) -> str:
    """A ratio with three digits."""
    return f"{ratio:.0f}x" if ratio >= 100 else f"{ratio:.3g}x"


def aligned(rows: list[tuple[str, ...]]) -> Iterable[str]:
    """Columns: text to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
