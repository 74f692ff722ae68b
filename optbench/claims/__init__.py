"""What the documents of the originals say, held against what is measured.

A document is a README or a docstring that an optimizer comes from, and has a file here. A claim quotes a phrase of it
and names the measurement that tests it; its rule turns the measured numbers into a verdict. Numbers are stored
(`results/claims/`), verdicts never are: they follow from the numbers each time.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from optbench.cell import FORMAT
from optbench.claims.plots import Figure, Table
from optbench.execute.request import Request
from optbench.fields import UserError, digest, nearest

PROGRAMS = "optbench.claims.programs"
DOCUMENTS = ("psgd_kron", "psgd_variants", "novograd", "expectigrad", "esgd_m", "ngc_learn")
"""The modules of the documents, in the order in which they are shown."""

Numbers = Mapping[str, Any]
"""What a measurement gives: JSON data."""


class Verdict(StrEnum):
    """What a measurement says about a sentence: a closed set, each with its meaning."""

    HOLDS = "holds"
    CONDITION = "holds with a condition"
    FAILS = "does not hold"
    IRREPRODUCIBLE = "not reproducible"
    UNTESTABLE = "not testable here"

    @property
    def sentence(self) -> str:
        """What the verdict means."""
        return SENTENCES[self]


SENTENCES = {
    Verdict.HOLDS: "the measurement says the same",
    Verdict.CONDITION: "true under a condition that the document does not name",
    Verdict.FAILS: "the measurement says otherwise",
    Verdict.IRREPRODUCIBLE: "nothing that was released or written down gives the documented value",
    Verdict.UNTESTABLE: "what it would take is not here",
}


class Ruling(NamedTuple):
    """A verdict with the measured value in a few words, and one sentence of why."""

    verdict: Verdict
    measured: str
    why: str


def graded(holds: bool, under_a_condition: bool = False) -> Verdict:
    """Holds, holds with a condition, or neither."""
    return Verdict.HOLDS if holds else Verdict.CONDITION if under_a_condition else Verdict.FAILS


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is run to test claims: a program in a worker, or a function that reads the rows of ordinary runs."""

    call: str
    """`module:function` in `optbench.claims.programs`."""
    inputs: Numbers = field(default_factory=dict)
    runs: tuple[Request, ...] = ()
    """The runs whose rows the function reads, a frame for each; without any it runs in a worker."""
    framework: str = "jax"
    cost: float = 2.0
    """CPU seconds, roughly and with compilation; only the order depends on it."""
    roomy: bool = False
    """Whether its temporaries are large, as `plan.Program.roomy` says."""
    version: int = 1
    """Counts up when the function changes what it gives, so that older numbers are not shown for it."""

    @functools.cached_property
    def id(self) -> str:
        """Twenty hex digits of what is measured; with runs, of their cells too."""
        cells = [[cell.id() for cell in request.cells()] for request in self.runs]
        own = {"call": self.call, "inputs": dict(self.inputs), "version": self.version}
        return digest({"format": FORMAT, **own, "framework": self.framework, "cells": cells})

    @property
    def family(self) -> tuple[str, str]:
        """It shares its need of memory with no other."""
        return self.id, ""

    def halves(self) -> tuple[Measurement, ...]:
        """It cannot be cut."""
        return ()

    def message(self) -> dict[str, Any]:
        """As JSON data, for a worker."""
        return {
            "call": f"{PROGRAMS}.{self.call}",
            "inputs": dict(self.inputs),
            "framework": self.framework,
        }


Lookup = Callable[[Measurement], Any]
"""The numbers of a measurement, None where it is not stored."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A checkable statement of a document."""

    name: str
    statement: str
    """What is claimed, in a sentence."""
    says: str
    """A phrase of the document."""
    documented: str
    """The documented value in a few words."""
    measurement: Measurement
    rule: Callable[[Numbers], Ruling]

    def ruling(self, numbers: Numbers) -> Ruling:
        """What these numbers say."""
        return self.rule(numbers)


def claim(says: str, documented: str, measurement: Measurement) -> Callable[[Callable[[Any], Ruling]], Claim]:
    """Make a claim of its rule: the function's name is the claim's, its docstring the statement."""

    def made(rule: Callable[[Any], Ruling]) -> Claim:
        return Claim(
            name=getattr(rule, "__name__", "").replace("_", "-"),
            statement=(rule.__doc__ or "").strip(),
            says=says,
            documented=documented,
            measurement=measurement,
            rule=rule,
        )

    return made


@dataclass(frozen=True, kw_only=True)
class Document:
    """A README or a docstring, and what it claims."""

    name: str
    title: str
    source: str
    """Package, version and address."""
    claims: tuple[Claim, ...]
    optimizers: tuple[str, ...]
    """The optimizers that it is about, by name."""
    figures: tuple[Callable[[Lookup], Figure | None], ...] = ()
    tables: tuple[Callable[[Lookup], Table | None], ...] = ()
    """What to show beside the verdicts; None where numbers are missing."""


@functools.cache
def documents() -> dict[str, Document]:
    """Every document by name."""
    found = [importlib.import_module(f"{__name__}.{module}").document for module in DOCUMENTS]
    return {document.name: document for document in found}


class Asked(NamedTuple):
    """A claim with the document that it is from."""

    document: Document
    claim: Claim

    @property
    def name(self) -> str:
        """`document.claim`."""
        return f"{self.document.name}.{self.claim.name}"


def every() -> list[Asked]:
    """All claims of all documents."""
    return [Asked(document, claim) for document in documents().values() for claim in document.claims]


def select(names: Sequence[str] | None) -> list[Asked]:
    """The claims asked for: all, those of a document, or one by `document.claim` or its own name."""
    if names is None:
        return every()
    chosen: list[Asked] = []
    for name in [part.strip() for text in names for part in text.split(",") if part.strip()]:
        found = [asked for asked in every() if name in (asked.document.name, asked.name, asked.claim.name)]
        if not found:
            near = nearest(name, {*documents(), *(asked.claim.name for asked in every())})
            if not near.startswith("Did"):
                near = f"The documents are {', '.join(documents())}."
            raise UserError(f"no claim or document is called {name!r}. {near} See: optbench claims")
        chosen += [asked for asked in found if asked not in chosen]
    if not chosen:
        raise UserError(
            "no claim was named. Name at least one, or none at all for every claim: optbench claims"
        )
    return chosen
