"""What optbench does with faults and bad input, counted. `make reliability` runs all and writes docs/reliability.md.

A check yields one outcome for each case that it tried:

    refused    one sentence names what is wrong, and the rest goes on (or nothing was begun)
    survived   the result is that of the same thing without the fault, to the bit
    lost       something finished is gone, or was computed twice
    wrong      a traceback, a number that nobody computed, code from data, or no end

`sample` is how many cases are tried, drawn by a seed; None: all.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

OUTCOMES = ("refused", "survived", "lost", "wrong")
T = TypeVar("T")
Outcomes = Iterator[tuple[str, str]]
"""An outcome, and the case."""


def drawn(cases: Iterable[T], sample: int | None, seed: int = 0) -> Sequence[T]:
    """All cases, or as many as asked for, in an order of the seed: whoever stops early has tried a fair part."""
    every = list(cases)
    random.Random(seed).shuffle(every)
    return every[:sample]
