"""What rules are made of: verdicts, comparisons over seeds, and the table in which rules are registered.

claims/registered.tsv has the digest of each claim's rule and the verdict that it gave when it was registered. Where the
rule has changed since, its ruling names the old verdict (`optbench.claim.registry` writes the table).
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from operator import sub
from types import CodeType
from typing import Any, NamedTuple

from optbench.cell import Explained
from optbench.fields import digest
from optbench.origin import source_digest
from optbench.wording import interval, number

CONTENT = "optbench.claims"
"""What claims/ is installed as."""
TABLE = "registered.tsv"


ROUNDING = 1e-12
"""Relative distance below which float64 results are the same."""


class Kind(StrEnum):
    """What decides about a claim: rounding alone, or a threshold, time and chance."""

    EXACT = "equations and counts"
    TRAINING = "training and cost"


class Verdict(Explained):
    """What a measurement says about a claim."""

    HOLDS = "holds", "the measurement says the same"
    CONDITION = "holds with a condition", "true under a condition that the document does not name"
    FAILS = "does not hold", "the measurement says otherwise"
    INCONCLUSIVE = "cannot be told here", "inconclusive: the measurement cannot decide"
    IRREPRODUCIBLE = "not reproducible", "nothing released or documented gives the documented value"


class Ruling(NamedTuple):
    """A verdict with the measured value in a few words, and one sentence of why."""

    verdict: Verdict
    measured: str
    why: str


Operator = Callable[[float, float], float]
Answer = bool | None
"""Yes, no, or undecided."""
Interval = tuple[float, float, float]
"""A median over seeds and the ends of its 95% interval; with fewer than five seeds the least and the largest value."""


def graded(holds: bool, under_a_condition: bool = False) -> Verdict:
    return Verdict.HOLDS if holds else Verdict.CONDITION if under_a_condition else Verdict.FAILS


def only_rounding(apart: float, why: str) -> Ruling:
    """Whether two float64 results differ by rounding alone."""
    return Ruling(graded(apart < ROUNDING), f"{number(apart, 1)} apart", why)


def over_seeds(values: Iterable[float]) -> Interval:
    import numpy as np

    from optbench.stats.curves import median_interval

    return median_interval(np.array([*values]))


def median_of(values: Iterable[float], **how: Any) -> str:
    """The median over seeds with its interval, as `wording.interval` writes it."""
    return interval(*over_seeds(values), **how)


def paired(ours: Sequence[float], theirs: Sequence[float], by: Operator = sub) -> Interval:
    """The difference of two methods seed by seed, or their ratio with `truediv`; equal if neither is finite."""
    return over_seeds(by(*((x, y) if x != y else (1, 1))) for x, y in zip(ours, theirs, strict=True))


def beyond(difference: Interval, margin: float = 0.0) -> Answer:
    """Whether a difference exceeds a margin: undecided where its interval includes the margin."""
    _, low, high = difference
    return True if low > margin else False if high <= margin else None


def within(ratio: Interval, least: float, most: float) -> Answer:
    """Whether a value lies in a range: undecided where its interval is partly inside."""
    _, low, high = ratio
    return True if least <= low and high <= most else False if high < least or low > most else None


def any_of(answers: Iterable[Answer]) -> Answer:
    """Yes if one is yes, no if all are no."""
    answers = list(answers)
    return True if True in answers else None if None in answers else False


def decided(*answers: Answer) -> Verdict:
    """Of the answers for each task: some hold under the condition that it is one of these tasks."""
    some = any_of(answers)
    return Verdict.INCONCLUSIVE if some is None else graded(all(answers), some)


class Registered(NamedTuple):
    """A row of the table."""

    claim: str
    rule: str
    verdict: str


@functools.cache
def registered() -> dict[str, Registered]:
    """The rows of claims/registered.tsv by `document.claim`."""
    text = (importlib.resources.files(CONTENT) / TABLE).read_text(encoding="utf-8")
    return {row[0]: Registered(*row) for row in list(csv.reader(text.splitlines(), delimiter="\t"))[1:]}


@functools.cache
def digest_of_rule(rule: Callable[..., Ruling]) -> str:
    """Of a rule's source and of the functions and constants that it uses, without comments, docstrings, decorators."""
    waiting: list[Any] = [rule]
    parts: dict[str, str] = {}
    while waiting:
        function = waiting.pop()
        source = inspect.getsource(function)
        parts[function.__qualname__] = source_digest(source[source.index("def ") :])
        for name in names(function.__code__):
            value = function.__globals__.get(name)
            if inspect.isfunction(value) and value.__module__.startswith("optbench.claim"):
                waiting += [value] * (value.__qualname__ not in parts)
            elif isinstance(value, str | int | float | tuple | list | dict):
                parts[name] = repr(value)
    return digest(parts)[:12]


def names(code: CodeType) -> Iterator[str]:
    """The names that code uses, also in functions and comprehensions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names(constant)
