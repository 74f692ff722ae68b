"""What the documents of the originals claim, tested by measurement.

A document is a README or a docstring that an optimizer comes from, and has a file in claims/. A claim quotes a phrase
of it and names the measurement that tests it; its rule turns the measured numbers into a verdict. Numbers are stored
(`results/claims/`), verdicts never are: they follow from the numbers each time.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from optbench.cell import FORMAT
from optbench.claim.plots import Figure, Table
from optbench.claim.rules import CONTENT, Kind, Ruling, Verdict, digest_of_rule, graded, registered
from optbench.execute.job import Call
from optbench.execute.request import Request
from optbench.fields import UserError, digest, nearest

__all__ = ["Claim", "Document", "Kind", "Measurement", "Numbers", "Ruling", "Verdict", "graded", "select"]

Numbers = Mapping[str, Any]
"""What a measurement gives: JSON data."""


@dataclass(frozen=True, kw_only=True)
class Measurement(Call):
    """What is run to test claims: a program in a worker, or a function that reads the rows of ordinary runs."""

    call: str
    """`module:function` in claims/programs/."""
    inputs: Numbers = field(default_factory=dict)
    runs: tuple[Request, ...] = ()
    """The runs whose rows the function reads, a frame for each; without any it runs in a worker."""
    framework: str = "jax"
    cost: float = 2.0
    """CPU seconds, roughly and with compilation; only the order depends on it."""
    version: int = 1
    """Counts up when the function's result changes, so that older numbers are not used for it."""
    kind: Kind = Kind.EXACT

    @classmethod
    def of(
        cls, call: str, *runs: Request, cost: float = 2.0, framework: str = "jax", version: int = 1,
        kind: Kind = Kind.EXACT, **inputs: Any,
    ) -> Measurement:  # fmt: skip
        own: dict[str, Any] = {"cost": cost, "framework": framework, "version": version, "kind": kind}
        return cls(call=call, runs=runs, inputs=inputs, **own)

    @functools.cached_property
    def id(self) -> str:
        """Twenty hex digits of what is measured; with runs, of their cells too."""
        cells = [[cell.id() for cell in request.cells()] for request in self.runs]
        own = {"call": self.call, "inputs": dict(self.inputs), "version": self.version}
        return digest({"format": FORMAT, **own, "framework": self.framework, "cells": cells})

    @property
    def family(self) -> tuple[str, str]:
        """Its memory needs are its own."""
        return self.id, ""

    @property
    def path(self) -> str:
        """`module:function` as a worker imports it."""
        return f"{CONTENT}.programs.{self.call}"

    def message(self) -> dict[str, Any]:
        return {"call": self.path, "inputs": dict(self.inputs), "framework": self.framework}

    def function(self) -> Callable[..., Any]:
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)


class Record(NamedTuple):
    """A stored measurement."""

    path: Path
    numbers: Any
    facts: dict[str, Any]
    created: float


Rule = TypeVar("Rule", bound=Callable[..., Ruling])


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A checkable statement of a document."""

    document: Document = field(repr=False, compare=False)
    short: str
    """Its name within the document."""
    statement: str
    """What is claimed, in a sentence."""
    says: str
    """A phrase of the document."""
    documented: str
    """The documented value in a few words."""
    measurement: Measurement
    ruling: Callable[[Any], Ruling]
    """The rule: from numbers to a verdict."""

    @property
    def name(self) -> str:
        """`document.claim`."""
        return f"{self.document.name}.{self.short}"

    def judge(self, numbers: Any) -> Ruling:
        """The rule's ruling, with the registered verdict where the rule has changed since."""
        ruling, old = self.ruling(numbers), registered().get(self.name)
        if old is None or old.rule == digest_of_rule(self.ruling):
            return ruling
        return ruling._replace(why=f"{ruling.why} (Rule changed; it was: {old.verdict}.)")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A README or a docstring, and what it claims."""

    name: str
    title: str
    source: str
    """Package, version and address."""
    optimizers: tuple[str, ...]
    """The optimizers that it is about, by name."""
    claims: list[Claim] = field(default_factory=list)
    shows: list[tuple[Callable[..., Figure | Table], tuple[Measurement, ...]]] = field(default_factory=list)
    """Functions that make a figure or a table, with the measurements that they take."""

    def claim(self, says: str, documented: str, measurement: Measurement) -> Callable[[Rule], Rule]:
        """Add the claim of a rule: the function's name is the claim's, its docstring the statement."""

        def add(rule: Rule) -> Rule:
            name, statement = getattr(rule, "__name__", "").replace("_", "-"), (rule.__doc__ or "").strip()
            texts = {"short": name, "statement": statement, "says": says, "documented": documented}
            self.claims.append(Claim(document=self, **texts, measurement=measurement, ruling=rule))
            return rule

        return add

    def show(self, *measurements: Measurement) -> Callable[[Callable[..., Figure | Table]], None]:
        """Add a function that makes a figure or a table from the numbers of these measurements."""
        return lambda make: self.shows.append((make, measurements))

    def shown(self, records: Mapping[str, Record]) -> list[Figure | Table]:
        """Every figure and table whose numbers are all among the records, which are by the measurement's id."""
        stored = [(make, [records.get(each.id) for each in of]) for make, of in self.shows]
        return [make(*(each.numbers for each in own if each)) for make, own in stored if None not in own]


@functools.cache
def documents() -> dict[str, Document]:
    """Every document by name: the `document` of each file in claims/."""
    folder = importlib.import_module(CONTENT).__path__
    files = [f"{CONTENT}.{module.name}" for module in pkgutil.iter_modules(folder) if not module.ispkg]
    return {document.name: document for document in (importlib.import_module(f).document for f in files)}


def every() -> list[Claim]:
    return [claim for document in documents().values() for claim in document.claims]


def select(names: Sequence[str] | None) -> list[Claim]:
    """All claims, those of some documents, or single ones by `document.claim` or their own name."""
    if names is None:
        return every()
    chosen: dict[str, Claim] = {}
    for name in [part.strip() for text in names for part in text.split(",") if part.strip()]:
        matches = {each.name: each for each in every() if name in (each.document.name, each.name, each.short)}
        chosen |= matches
        if not matches:
            near = nearest(name, {*documents(), *(claim.short for claim in every())})
            if not near.startswith("Did"):
                near = f"The documents are {', '.join(documents())}."
            raise UserError(f"no claim or document is called {name!r}. {near} See: optbench claims")
    if not chosen:
        raise UserError(
            "no claim was named. Name at least one, or none at all for every claim: optbench claims"
        )
    return [*chosen.values()]
