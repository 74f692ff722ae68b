"""The look of each optimizer: one colour, line and marker, the same in every figure of every report.

It follows from the optimizer's place in the catalogue, never from who else is shown. A colour is a hue in two
strengths, for white and for dark ground. Each stands out from its ground by 3:1 (WCAG 2.2, 1.4.11), and the first
seven, which are drawn solid, are told apart by eyes with any of the common colour deficiencies; the hues are those
of Okabe and Ito (2008), moved until both hold, which a test measures. Lines and markers tell them apart in grey.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from optbench import optimizers

FIRST = 7
"""How many colours are used before lines are dashed."""
COLOURS = (
    ("#03509A", "#1F72DC"), ("#B24A12", "#EF630E"), ("#0AA088", "#27A684"), ("#89004E", "#A85A94"),
    ("#3B76B5", "#6AC0FE"), ("#B88815", "#F7BA32"), ("#1A1A1A", "#E8E8E8"),
    ("#332288", "#9C8CF0"), ("#882255", "#D97AA8"), ("#7F7F1F", "#C5C55E"), ("#1F8A7A", "#63C9B8"),
    ("#B8495C", "#EE8E9D"), ("#AA4499", "#D27FC6"), ("#6B6B6B", "#A0A0A0"),
)  # fmt: skip
"""On white, and on dark ground."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*", "h", "d", "8")
Dash = tuple[float, tuple[float, ...]]
DASHES: tuple[Dash, ...] = ((0, ()), (0, (5, 1.6)), (0, (5, 1.4, 1, 1.4)), (0, (1.2, 1.2)))
VARIANTS: tuple[Dash, ...] = (
    (0, (8, 1.5, 2, 1.5)),
    (0, (3, 1)),
    (0, (2, 1, 2, 3)),
    (0, (9, 3)),
    (0, (1, 2.2)),
)
"""Lines of `name[field=value]`, which keeps the colour of `name`; none of them is in `DASHES`."""


class Look(NamedTuple):
    """How one optimizer is drawn."""

    hue: int
    """The place in `COLOURS`."""
    dash: Dash
    marker: str
    hollow: bool = False
    """Whether the marker is filled white, which marks a variant of a method."""

    @property
    def colour(self) -> str:
        """On white, as on paper."""
        return COLOURS[self.hue][0]

    def line(self) -> dict[str, Any]:
        """Keyword arguments for a line with markers."""
        face = "white" if self.hollow else self.colour
        return {"color": self.colour, "linestyle": self.dash, "marker": self.marker, "markerfacecolor": face}


def order(labels: Iterable[str]) -> list[str]:
    """The order in which optimizers are listed everywhere: the catalogue's, variants after their method."""
    listed = list(optimizers.names())

    def key(label: str) -> tuple[int, str]:
        name = label.partition("[")[0]
        return (listed.index(name) if name in listed else len(listed), label)

    return sorted(set(labels), key=key)


def look(label: str) -> Look:
    """How an optimizer is drawn, by its label."""
    name, bracket, _ = label.partition("[")
    listed = list(optimizers.names())
    # A method that is stored but no longer listed gets some place behind the listed ones.
    place = listed.index(name) if name in listed else len(listed) + number(name) % len(COLOURS)
    hue = place % len(COLOURS)
    dash = DASHES[place // FIRST % len(DASHES)]
    # Colour and line come round together after so many places; from there on the markers are others.
    marker = MARKERS[(place + place // (FIRST * len(DASHES))) % len(MARKERS)]
    if not bracket:
        return Look(hue, dash, marker)
    drawn = number(label)
    return Look(
        hue, VARIANTS[drawn % len(VARIANTS)], MARKERS[drawn // len(VARIANTS) % len(MARKERS)], hollow=True
    )


def number(text: str) -> int:
    """The same number for the same text, in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
