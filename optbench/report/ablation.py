"""Ablations: each part of an optimizer switched off, its learning rate tuned again, paired with the whole by seed."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from optbench.fields import UserError
from optbench.optimizer import Optimizer
from optbench.record import IMPORTED, typed
from optbench.report import resolve
from optbench.report.content import Content
from optbench.report.reproduce import typed_names
from optbench.stats import Frame
from optbench.stats.comparison import log_losses
from optbench.stats.outcomes import chosen
from optbench.stats.paired import ALPHA
from optbench.stats.sequence import estimate
from optbench.stats.settings import kept_apart, labels
from optbench.store import Store
from optbench.wording import command_line

MARGIN = 1.01
"""Losses are equivalent whose ratio lies within this, as in `optbench try`."""
SMALL = ("eps", "epsilon", "damping")
"""Numbers that keep a division safe; they are no parts."""
VERDICTS = {"worse": "helps", "better": "hurts", "equivalent": "equivalent", "cannot tell yet": "cannot tell"}
"""What a part does, by what the optimizer is without it."""


class Effect(NamedTuple):
    """What an optimizer loses, or gains, without one of its parts on a problem."""

    optimizer: str
    part: str
    problem: str
    ratio: float
    """The geometric mean over seeds of the loss without the part over the loss with it."""
    low: float
    high: float
    seeds: int
    verdict: str


def parts(optimizer: Optimizer, without: Sequence[str] | None = None) -> dict[str, Optimizer]:
    """The optimizer without each part: flags that are on, choices that have none, numbers that may be 0.

    `without` names them instead, as `b1=0`; those that an optimizer does not have are left out.
    """
    if without is not None:
        made = {text: replaced(optimizer, text) for text in without}
        return {text: each for text, each in made.items() if each is not None and each != optimizer}
    found, swept = {}, optimizer.swept()
    for field in dataclasses.fields(optimizer):
        value, choices = getattr(optimizer, field.name), field.metadata.get("choices") or ()
        if isinstance(value, bool):
            off = False
        elif choices:
            off = next((each for each in (None, "none") if each in choices), value)
        else:
            off = 0.0 if isinstance(value, float) and not field.name.startswith(SMALL) else value
        if off == value or field == swept:
            continue
        text = "0" if isinstance(off, float) else off
        with contextlib.suppress(UserError):  # a number that may not be 0, or that another part needs
            found[f"{field.name}={text}"] = optimizer.replace(**{field.name: off})
    return found


def replaced(optimizer: Optimizer, text: str) -> Optimizer | None:
    """The optimizer with `field=value`; None if it has no such field or value."""
    name = text.partition("=")[0]
    given = resolve.optimizer(f"{typed(optimizer.spec(), optimizer.name)}[{text}]")
    try:
        return None if given is None else optimizer.replace(**{name: getattr(given, name)})
    except (AttributeError, UserError):
        return None


def ablations(
    content: Content, store: Store, without: Sequence[str] | None = None
) -> tuple[list[Effect], list[str], list[str]]:
    """The effects of the parts of each optimizer that is shown and listed, what computed what the report does not show,
    and what computes those that are missing.
    """
    selection = content.selection
    if selection.suite == IMPORTED:  # nobody can run these without a part
        return [], [], []
    frame = selection.read(store)
    names = typed_names(content.stored, selection.named)
    effects: list[Effect] = []
    commands: tuple[list[str], list[str]] = [], []
    for label in content.optimizers:
        optimizer = resolve.optimizer(names[label])
        own = content.stored[content.stored["optimizer"] == label]
        ran, missing = [], []
        for part, variant in (parts(optimizer, without) if optimizer else {}).items():
            text = typed(variant.spec(), variant.label(), selection.named)
            try:
                rows = dataclasses.replace(selection, opt=[text]).rows(frame, store.folder)
            except UserError:  # not stored, or not finished
                missing.append(text)
            else:
                effects += effects_of(label, part, own, rows)
                ran += [text] * (variant.label() not in content.optimizers)
        for found, texts in zip(commands, (ran, missing), strict=True):
            if not texts:
                continue
            seeds = chosen(kept_apart(own)[0])["seed"].nunique()
            what = {"suite": selection.named, "task": selection.task, "opt": [names[label], *texts]}
            how = {**selection.ruleset(), **selection.setting_of(own), "results": selection.results}
            how["seeds"] = None if seeds == content.suite.seeds else seeds
            found.append(command_line("run", **what, **how))
    return effects, *commands


def by_problem(rows: Frame) -> dict[str, Frame]:
    names = labels(rows)
    return {names[part.index[0]]: part for part in kept_apart(rows)}


def effects_of(label: str, part: str, own: Frame, rows: Frame) -> Iterator[Effect]:
    """On each problem that both ran, paired by the seeds that both reported."""
    known = by_problem(own)
    for name, tried in by_problem(rows).items():
        if name not in known:
            continue
        sides = [chosen(each) for each in (tried, known[name])]
        sides = [each[each["evaluation_steps"].map(len) > 0].set_index("seed") for each in sides]
        seeds = sorted(set(sides[0].index) & set(sides[1].index))
        if len(seeds) < 2:
            continue
        without, whole = (log_losses(each.loc[seeds].reset_index()) for each in sides)
        found = estimate(without - whole, ALPHA)
        with np.errstate(over="ignore"):
            ratio, low, high = np.power(10.0, [found.mean, found.low, found.high]).tolist()
        yield Effect(label, part, name, ratio, low, high, len(seeds), VERDICTS[found.verdict(MARGIN)])
