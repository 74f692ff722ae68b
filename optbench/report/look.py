"""The look of each optimizer: one colour, line and marker, the same in every figure of every report.

It follows from the optimizer's place in the catalogue, never from who else is shown. Colours are told apart by
eyes with any of the common colour deficiencies (Okabe and Ito 2008, without the yellow that paper swallows, then
the muted scheme of Tol 2021); lines and markers tell them apart in grey.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from optbench import optimizers

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
TOL_MUTED = ("#332288", "#882255", "#999933", "#44AA99", "#CC6677", "#AA4499", "#777777")
COLOURS = (*OKABE_ITO, *TOL_MUTED)
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

    colour: str
    dash: Dash
    marker: str
    hollow: bool = False
    """Whether the marker is filled white, which marks a variant of a method."""

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
    colour = COLOURS[place % len(COLOURS)]
    dash = DASHES[place // len(OKABE_ITO) % len(DASHES)]
    # Colour and line come round together after so many places; from there on the markers are others.
    marker = MARKERS[(place + place // (len(OKABE_ITO) * len(DASHES))) % len(MARKERS)]
    if not bracket:
        return Look(colour, dash, marker)
    drawn = number(label)
    return Look(
        colour, VARIANTS[drawn % len(VARIANTS)], MARKERS[drawn // len(VARIANTS) % len(MARKERS)], hollow=True
    )


def number(text: str) -> int:
    """The same number for the same text, in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
