"""What rules are made of: verdicts, comparisons over seeds, and the table in which rules are registered.

claims/registered.tsv has the digest of each claim's rule and the verdict that it gave when it was registered. Where the
rule has changed since, its ruling names the old verdict (`optbench.claim.registry` writes the table).
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
import inspect
from collections.abc import Callable, Iterator
from enum import StrEnum
from types import CodeType
from typing import Any, NamedTuple

from optbench.fields import digest
from optbench.origin import source_digest

CONTENT = "optbench.claims"
"""What claims/ is installed as."""
TABLE = "registered.tsv"


class Verdict(StrEnum):
    """What a measurement says about a sentence: a closed set, each with its meaning."""

    sentence: str
    HOLDS = "holds", "the measurement says the same"
    CONDITION = "holds with a condition", "true under a condition that the document does not name"
    FAILS = "does not hold", "the measurement says otherwise"
    IRREPRODUCIBLE = (
        "not reproducible",
        "nothing that was released or written down gives the documented value",
    )
    UNTESTABLE = "not testable here", "what it would take is not here"

    def __new__(cls, word: str, sentence: str) -> Verdict:
        """A word, with what it means."""
        found = str.__new__(cls, word)
        found._value_, found.sentence = word, sentence
        return found


class Ruling(NamedTuple):
    """A verdict with the measured value in a few words, and one sentence of why."""

    verdict: Verdict
    measured: str
    why: str


def graded(holds: bool, under_a_condition: bool = False) -> Verdict:
    """Holds, holds with a condition, or neither."""
    return Verdict.HOLDS if holds else Verdict.CONDITION if under_a_condition else Verdict.FAILS


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
