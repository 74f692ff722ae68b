"""The catalogue of optimizers. Add one: write its file, add its class to `CLASSES`."""

from __future__ import annotations

from optbench.core import Optimizer
from optbench.fields import from_text
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

CLASSES: tuple[type[Optimizer], ...] = (
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
"""In the order of figures; the first ones have the colours that are told apart best."""


def names() -> dict[str, Optimizer]:
    """Every optimizer by name, with its defaults."""
    return {cls.name: cls() for cls in CLASSES}


def parse(text: str) -> Optimizer:
    """An optimizer from `name` or `name[field=value,...]`."""
    return from_text("optimizer", text, names())
