"""Settings of our own factories and classes that take more than text: trees, dtypes, schedules."""

from __future__ import annotations

from typing import Any

from optbench.tasks.leaves import SHAPES

FASTER = 160
"""How many times faster the annealing of kron's update probability runs than by default."""


def kron_of_stacks(learning_rate: Any = 0.03, **options: Any) -> Any:
    """kron with a leaf that stacks layers."""
    from optbench.optimizers.kron.jax import kron

    layers = {name: name == "cube" for name in SHAPES}
    return kron(learning_rate, scanned_layers=layers, weight_decay=0.1, **options)


def kron_of_stacks_one_by_one(learning_rate: Any = 0.03) -> Any:
    return kron_of_stacks(learning_rate, lax_map_scanned_layers=True, lax_map_batch_size=2, b1=0.0)


def kron_of_low_precision(learning_rate: Any = 0.03) -> Any:
    from optbench.optimizers.kron.jax import kron

    return kron(learning_rate, mu_dtype="bfloat16", precond_dtype="float32")


def kron_annealed(learning_rate: Any = 0.03) -> Any:
    """kron whose update probability falls, by the default schedule, within the steps of the fingerprint."""
    from optbench.optimizers.kron.jax import kron, precond_update_prob_schedule

    schedule = precond_update_prob_schedule()
    return kron(learning_rate, preconditioner_update_probability=lambda n: schedule(FASTER * n))


def torch_kron_of_stacks(params: Any, lr: float = 0.03) -> Any:
    from optbench.optimizers.kron.torch import Kron, precond_update_prob_schedule

    schedule = precond_update_prob_schedule()
    every = list(params)
    stacks = [param for param in every if tuple(param.shape) == SHAPES["cube"]]
    others = [param for param in every if tuple(param.shape) != SHAPES["cube"]]
    groups = [{"params": others}, {"params": stacks, "scanned_layers": True, "preconditioner_lr": 0.2}]
    return Kron(
        groups, lr, preconditioner_update_probability=lambda n: schedule(FASTER * n), weight_decay=0.1
    )


def halved(step: Any) -> Any:
    """The size of a fit that falls with the step, counted from 1."""
    return 0.2 / step


def xmat_of_scheduled_fits(learning_rate: Any = 0.03) -> Any:
    from optbench.optimizers.xmat.jax import xmat

    return xmat(learning_rate, precond_lr=halved)


def torch_xmat_of_scheduled_fits(params: Any, lr: float = 0.03) -> Any:
    from optbench.optimizers.xmat.torch import XMat

    return XMat(params, lr, precond_lr=halved)
