"""The goal table: what was wanted, what was measured, held or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.bench.clock import Race

RIVALS = {"naive": "naive", "scan": "scan", "vmap": "scan+vmap"}
"""The three hand-written loops that every engine row is held against, side by side."""


@dataclass(frozen=True)
class Goal:
    """One row."""

    what: str
    wanted: str
    measured: str
    held: bool
    beside: tuple[str, ...] = ("",) * len(RIVALS)
    disturbed: bool = False


class Goals:
    """The rows of one run, in the order in which they were measured."""

    def __init__(self) -> None:
        self.rows: list[Goal] = []

    def faster(self, what: str, race: Race, than: str, least: float, ours: str = "engine") -> None:
        """`ours` is at least `least` times faster than a contestant: best turns, and in brackets the median."""
        best, typical = race.ratio(than, ours), race.typical(than, ours)
        beside = tuple(f"{times(race.ratio(name, ours))}" if name in race.seconds else "" for name in RIVALS)
        self.rows.append(
            Goal(
                what,
                f">= {least:g}x {RIVALS.get(than, than)}",
                f"{times(best)} ({times(typical)})",
                best >= least,
                beside,
                race.disturbed,
            )
        )

    def at_most(self, what: str, value: float, most: float, unit: str, disturbed: bool = False) -> None:
        """A number that must not be larger."""
        self.rows.append(
            Goal(what, f"<= {most:g}{unit}", f"{value:.3g}{unit}", value <= most, disturbed=disturbed)
        )

    def at_least(self, what: str, value: float, least: float, unit: str, disturbed: bool = False) -> None:
        """A number that must not be smaller."""
        self.rows.append(
            Goal(what, f">= {least:g}{unit}", f"{value:.3g}{unit}", value >= least, disturbed=disturbed)
        )

    def table(self) -> str:
        """At most 100 columns wide."""
        head = ("goal", "wanted", "measured", *RIVALS.values(), "held")
        rows = [
            (
                goal.what,
                goal.wanted,
                goal.measured + "~" * goal.disturbed,
                *goal.beside,
                "yes" if goal.held else "NO",
            )
            for goal in self.rows
        ]
        lines = list(aligned([head, *rows]))
        lines.insert(1, "-" * max(map(len, lines)))
        held = sum(goal.held for goal in self.rows)
        lines += [
            "",
            f"{held} of {len(rows)} goals held. Ratios are of CPU time on one core: of the best turns, and in",
            "brackets the median over rounds of turns taken one after the other.",
        ]
        if any(goal.disturbed for goal in self.rows):
            lines.append("~ measured while other programs ran on this core: run it again on a quiet machine.")
        return "\n".join(lines)


def times(ratio: float) -> str:
    """A ratio with three digits."""
    return f"{ratio:.0f}x" if ratio >= 100 else f"{ratio:.3g}x"


def aligned(rows: list[tuple[str, ...]]) -> Iterable[str]:
    """Columns: text to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
