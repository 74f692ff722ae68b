"""The functional interface of ngc-learn's optimizers for tensors; `optbench.optimizers.ngc.functional` says more.

`adam`, `nag` and `sgd` have each rule's `step_update`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from optbench.optimizers.ngc import rule_of


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


def sgd_update(param: Any, update: Any, eta: Any) -> tuple[Any]:
    """One step of one tensor."""
    return (param - eta * update,)


def rule(update: Callable[..., Any], kept: int, times: bool, **defaults: Any) -> tuple[Callable, Callable]:
    """A rule's init and its step of a list, from its step of one tensor, which keeps so many tensors of its shape."""

    def init(theta: Any) -> Any:
        """The state before the first step: what is kept of each tensor, and the number of steps."""
        zeros = [[torch.zeros_like(leaf) for leaf in theta] for _ in range(kept)]
        return (*zeros, torch.tensor(0.0)) if kept else torch.tensor(0.0)

    def step(opt_params: Any, theta: Any, updates: Any, **given: Any) -> tuple[Any, list]:
        """One step of a list of tensors: the new state and the new list."""
        *states, time_step = opt_params if kept else (opt_params,)
        options = {**defaults, **given} | ({"time_step": time_step + 1} if times else {})
        rows = zip(theta, updates, *states, strict=True)
        new = [*zip(*(update(*row, **options) for row in rows), strict=True)]
        held = [list(each) for each in new[1:]]
        return (*held, time_step + 1) if kept else time_step + 1, list(new[0])

    return init, step


adam_init, adam_step = rule(adam_update, 2, True, eta=0.001, beta1=0.9, beta2=0.999, eps=1e-8)
nag_init, nag_step = rule(nag_update, 1, True, eta=0.01, mu=0.9)
sgd_init, sgd_step = rule(sgd_update, 0, False, eta=0.001)
adam, nag = SimpleNamespace(step_update=adam_update), SimpleNamespace(step_update=nag_update)
sgd = SimpleNamespace(step_update=lambda param, update, eta: sgd_update(param, update, eta)[0])
RULES = {"adam": (adam_init, adam_step), "nag": (nag_init, nag_step), "sgd": (sgd_init, sgd_step)}


def get_opt_init_fn(opt: str = "adam") -> Callable[[Any], Any]:
    """The function that makes the state of `adam`, `nag` or `sgd` from a list of tensors."""
    return rule_of(opt, RULES)[0]


def get_opt_step_fn(opt: str = "adam", **hyperparameters: Any) -> Callable[[Any, Any, Any], tuple[Any, list]]:
    """The step of `adam`, `nag` or `sgd` with these hyperparameters."""
    return functools.partial(rule_of(opt, RULES)[1], **hyperparameters)
