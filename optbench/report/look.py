"""The look of each optimizer: one colour, line and marker, the same in every figure of every report.

It follows from the optimizer's name alone: from its place in `NAMED`, or from a hash, so an optimizer that is added
recolours no other. A colour is a hue in two strengths, for white and for dark ground. Each stands out from its
ground by 3:1 (WCAG 2.2, 1.4.11), and the first seven, which are drawn solid, are distinguishable with any of the
common colour deficiencies; the hues are those of Okabe and Ito (2008), moved until both hold, which a test measures.
Lines and markers distinguish them in grey, and two optimizers of one report that share a colour in print too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

NAMED = (
    "kron", "adam", "sgd", "novograd", "esgd", "expectigrad", "xmat", "lra", "affine", "adamw", "ngc_adam", "ngc_nag",
    "ngc_sgd",
)  # fmt: skip
"""Optimizers with a look of their own, in the order in which figures list them; append only. Others follow by name."""
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
    (0, (8, 1.5, 2, 1.5)), (0, (3, 1)), (0, (2, 1, 2, 3)), (0, (9, 3)), (0, (1, 2.2)),
)  # fmt: skip
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


class Grey(Look):
    """An optimizer of many that is drawn behind the others, thin and without its marker."""

    @property
    def colour(self) -> str:
        return "#cfd3d8"

    def line(self) -> dict[str, Any]:
        return {"color": self.colour, "linestyle": "-", "marker": "", "linewidth": 0.7, "zorder": 1.2}


def order(labels: Iterable[str]) -> list[str]:
    """The order in which optimizers are listed: that of `NAMED`, then by name; variants after their method."""

    def key(label: str) -> tuple[int, str, str]:
        name = label.partition("[")[0]
        return NAMED.index(name) if name in NAMED else len(NAMED), name, label

    return sorted(set(labels), key=key)


def look(label: str) -> Look:
    """How an optimizer is drawn unless another has the same look, by its label."""
    name, bracket, _ = label.partition("[")
    place = NAMED.index(name) if name in NAMED else number(name)
    dash, marker = (place // FIRST, place) if name in NAMED else (place // 14, place // 56)
    if bracket:
        dash, marker = number(label), number(label) // len(VARIANTS)
    dashes = VARIANTS if bracket else DASHES
    line = dashes[dash % len(dashes)], MARKERS[marker % len(MARKERS)]
    return Look(place % len(COLOURS), *line, hollow=bool(bracket))


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """How several optimizers are drawn together: of two with one colour the later has other dashes and marker."""
    found: dict[str, Look] = {}
    for label in order(labels):
        wanted = look(label)
        same = [each for each in found.values() if each.hue == wanted.hue]
        dashes = VARIANTS if wanted.hollow else DASHES
        turned = [
            wanted._replace(
                dash=dashes[(dashes.index(wanted.dash) + turn) % len(dashes)],
                marker=MARKERS[(MARKERS.index(wanted.marker) + turn) % len(MARKERS)],
            )
            for turn in range(len(dashes) * len(MARKERS))
        ]
        # Both differ, or, once the dashes are used up, at least one of them.
        apart = [
            each for each in turned if all(each.dash != o.dash and each.marker != o.marker for o in same)
        ]
        found[label] = next(iter([*apart, *(each for each in turned if each not in same), wanted]))
    return found


def number(text: str) -> int:
    """The same number for the same text, in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
