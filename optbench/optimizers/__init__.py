"""The catalogue of optimizers. Add one: write its file, add its class to `LISTED`.

The standard methods of optax and torch.optim are in `optbench.optimizers.standard`, with a list of their own;
they are imported when one of them, or the whole catalogue, is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from optbench.fields import UserError, from_text, nearest
from optbench.optimizer import Optimizer
from optbench.optimizers.adam import Adam, AdamW
from optbench.optimizers.affine import Affine
from optbench.optimizers.esgd import ESGD
from optbench.optimizers.expectigrad import Expectigrad
from optbench.optimizers.kron import Kron
from optbench.optimizers.lra import LRA
from optbench.optimizers.ngc import NgcAdam, NgcNag, NgcSgd
from optbench.optimizers.novograd import Novograd
from optbench.optimizers.sgd import SGD
from optbench.optimizers.xmat import XMat

GROUP = "optbench.optimizers"
"""The entry point group in which a package offers optimizers."""

LISTED: tuple[type[Optimizer], ...] = (
    Kron,
    Adam,
    SGD,
    Novograd,
    ESGD,
    Expectigrad,
    XMat,
    LRA,
    Affine,
    AdamW,
    NgcAdam,
    NgcNag,
    NgcSgd,
)
"""Checked wholly by default, in the order of figures; the first ones have the colours that are told apart best."""


@functools.cache
def listed() -> dict[str, Optimizer]:
    """The listed optimizers by name, with their defaults."""
    return {cls.name: cls() for cls in LISTED}


@functools.cache
def names() -> dict[str, Optimizer]:
    """Every optimizer by name, with its defaults."""
    from optbench.optimizers.standard import CLASSES

    return {**listed(), **{cls.name: cls() for cls in CLASSES}}


def find(name: str) -> Optimizer | None:
    """The optimizer of this name: listed, standard, or offered by an installed package; None if there is none."""
    return listed().get(name) or names().get(name) or offered(name)


def offered(name: str) -> Optimizer | None:
    """What an installed package offers under the entry point group `optbench.optimizers`.

    A subclass of Optimizer is taken as it is; anything else is a foreign target.
    """
    from importlib.metadata import entry_points

    from optbench.optimizers import foreign

    for point in entry_points(group=GROUP, name=name):
        found = foreign.resolve(point.value)
        if isinstance(found, type) and issubclass(found, Optimizer):
            return found()
        return foreign.parse(point.value)
    return None


def parse(text: str) -> Optimizer:
    """An optimizer from `name[field=value,...]`, or from `module:name[option=value,...]` of another package."""
    from optbench.optimizers import foreign

    name, bracket, rest = text.strip().partition("[")
    if ":" in name:
        return foreign.parse(text)
    if name not in listed() and name not in names():
        found = offered(name)
        if isinstance(found, foreign.Foreign):
            return foreign.parse(f"{found.target}{bracket}{rest}")
        if found is not None:
            return from_text("optimizer", text, {name: found})
    return from_text("optimizer", text, names())


def of(spec: Mapping[str, Any]) -> Optimizer:
    """The optimizer that `Optimizer.spec` described."""
    from optbench.optimizers import foreign

    if "target" in spec:
        return foreign.Foreign.of(spec)
    changes = dict(spec)
    name = changes.pop("name")
    found = find(name)
    if found is None:
        raise UserError(f"optimizer {name!r} is not known here. {nearest(name, names())}")
    return found.replace(**changes)
