"""The catalogue of optimizers. Add one: write its file, add its class to `LISTED`.

The standard methods of optax and torch.optim are in `optbench.optimizers.standard`, with a list of their own;
they are imported when one of them, or the whole catalogue, is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Container

from optbench.optimizer import Optimizer
from optbench.optimizers.adam import Adam, AdamW
from optbench.optimizers.affine import Affine
from optbench.optimizers.esgd import ESGD
from optbench.optimizers.expectigrad import Expectigrad
from optbench.optimizers.kron import Kron
from optbench.optimizers.lra import LRA
from optbench.optimizers.ngc import NgcAdam, NgcNag, NgcSgd
from optbench.optimizers.novograd import Novograd
from optbench.optimizers.psgd_dq import DenseNewton, KronDQ, LraDQ
from optbench.optimizers.sgd import SGD
from optbench.optimizers.xmat import XMat

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
    KronDQ,
    LraDQ,
    DenseNewton,
)
"""Checked wholly by default, in the order of figures; the first ones have the colours that are told apart best."""
WITH_DQ: dict[str, type[Optimizer]] = {"kron": KronDQ, "lra": LraDQ}
"""What a name means with the option dQ, which only psgd_torch has: `kron[dQ=QUAD]` is `kron_dq[dQ=QUAD]`."""


@functools.cache
def listed() -> dict[str, Optimizer]:
    return {cls.name: cls() for cls in LISTED}


@functools.cache
def names() -> dict[str, Optimizer]:
    from optbench.optimizers.standard import CLASSES

    return {**listed(), **{cls.name: cls() for cls in CLASSES}}


def find(name: str, options: Container[str] = ()) -> Optimizer | None:
    """The listed or standard optimizer of this name that has these options; None if there is no such name."""
    if "dQ" in options and name in WITH_DQ:
        return WITH_DQ[name]()
    return listed().get(name) or names().get(name)


def parse(text: str) -> Optimizer:
    """An optimizer from `name[field=value,...]`, or from `module:name[option=value,...]` of another package."""
    from optbench import catalogue

    return catalogue.optimizer(text)
