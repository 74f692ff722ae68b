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

from optbench.optimizers.ngc import interface
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

RULES = {"adam": (adam_init, adam_step), "nag": (nag_init, nag_step), "sgd": (sgd_init, sgd_step)}
get_opt_init_fn, get_opt_step_fn = interface(RULES)
