"""The functional interface of ngc-learn's optimizers, name by name.

    from optbench.optimizers.ngc.functional import get_opt_init_fn, get_opt_step_fn

    state = get_opt_init_fn("adam")(theta)
    step = get_opt_step_fn("adam", eta=0.002)
    state, theta = step(state, theta, updates)

`theta` and `updates` are lists of arrays, or arrays whose first axis is the list; a list is returned.
Updates are subtracted. The state is zeros of the default float dtype. `adam`, `nag` and `sgd` are the
modules with each rule's `step_update`. `optbench.optimizers.ngc.torch_functional` has the same names for tensors.

Source: package ngclearn 3.2.1 (commit 6cfadd5).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from optbench.optimizers.ngc import rule_of
from optbench.optimizers.ngc.functional.adam import adam_init, adam_step
from optbench.optimizers.ngc.functional.nag import nag_init, nag_step
from optbench.optimizers.ngc.functional.sgd import sgd_init, sgd_step

__all__ = [
    "adam_init",
    "adam_step",
    "get_opt_init_fn",
    "get_opt_step_fn",
    "nag_init",
    "nag_step",
    "sgd_init",
    "sgd_step",
]

RULES: dict[str, tuple[Callable, Callable]] = {
    "adam": (adam_init, adam_step),
    "nag": (nag_init, nag_step),
    "sgd": (sgd_init, sgd_step),
}


def get_opt_init_fn(opt: str = "adam") -> Callable[[Any], Any]:
    """The function that makes the state of `adam`, `nag` or `sgd` from a list of arrays."""
    return rule_of(opt, RULES)[0]


def get_opt_step_fn(opt: str = "adam", **hyperparameters: Any) -> Callable[[Any, Any, Any], tuple[Any, list]]:
    """The step of `adam`, `nag` or `sgd` with these hyperparameters."""
    return functools.partial(rule_of(opt, RULES)[1], **hyperparameters)
