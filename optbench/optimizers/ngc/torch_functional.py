"""The functional interface of ngc-learn's optimizers for tensors; `optbench.optimizers.ngc.functional` says more.

`adam`, `nag` and `sgd` have each rule's `step_update`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from optbench.optimizers.ngc import interface, rule


def remains(decay: Any, time_step: Any, like: torch.Tensor) -> torch.Tensor:
    """1 - decay^t"""
    power = torch.as_tensor(decay, dtype=torch.float64) ** torch.as_tensor(time_step, dtype=torch.float64)
    return (1 - power).to(like)


def adam_update(
    param: Any, update: Any, g1: Any, g2: Any, eta: Any, beta1: Any, beta2: Any, time_step: Any, eps: Any
) -> tuple[Any, Any, Any]:
    """One Adam step of one tensor at step `time_step` (from 1): the new param, g1 and g2."""
    g1 = beta1 * g1 + (1 - beta1) * update
    g2 = beta2 * g2 + (1 - beta2) * update**2
    divisor = (g2 / remains(beta2, time_step, g2)).sqrt() + eps
    return param - eta * (g1 / remains(beta1, time_step, g1)) / divisor, g1, g2


def nag_update(param: Any, update: Any, phi_old: Any, eta: Any, mu: Any, time_step: Any) -> tuple[Any, Any]:
    """One step of one tensor at step `time_step` (from 1): the new param and phi."""
    phi = param - eta * update
    return phi + (phi - phi_old) * torch.where(torch.as_tensor(time_step > 1), mu, 0).to(phi), phi


def sgd_update(param: Any, update: Any, eta: Any) -> Any:
    """One step of one tensor."""
    return param - eta * update


adam_init, adam_step = rule("adam", torch, None, adam_update, 2, eta=0.001, beta1=0.9, beta2=0.999, eps=1e-8)
nag_init, nag_step = rule("nag", torch, None, nag_update, 1, eta=0.01, mu=0.9)
sgd_init, sgd_step = rule("sgd", torch, None, sgd_update, 0, eta=0.001)
adam, nag, sgd = (SimpleNamespace(step_update=update) for update in (adam_update, nag_update, sgd_update))
RULES = {"adam": (adam_init, adam_step), "nag": (nag_init, nag_step), "sgd": (sgd_init, sgd_step)}
get_opt_init_fn, get_opt_step_fn = interface(RULES)
