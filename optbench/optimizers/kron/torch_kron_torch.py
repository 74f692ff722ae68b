"""Kron with the rules of the package kron-torch, for those who switch from it."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch

from optbench.fields import hyper
from optbench.optimizers.kron import ALONE, FITTING, Shaping
from optbench.optimizers.kron import Kron as Declared
from optbench.optimizers.kron.torch import (
    Factors,
    Kron,
    clip_rms,
    first_factors,
    fit_factors,
    precondition,
)
from optbench.optimizers.psgd import BALANCE_PROBABILITY, SEED, SHARED
from optbench.optimizers.psgd.groups import is_alive
from optbench.optimizers.psgd.torch_base import Work, descend
from optbench.rules.arguments import field, rate
from optbench.rules.torch_optimizer import Leaf, optimizer, wide
from optbench.rules.torch_shards import spread, whole

DAMPING = 2.0**-11.5
"""sqrt of the float32 machine epsilon, not rounded to float32."""


@optimizer(
    Declared,
    f"lr b1 weight_decay {FITTING} precond_lr precond_init_scale merge_dims mu_dtype precond_dtype "
    "* noise seed upstream",
    lr=rate(Declared, default=0.0003),
    precond_lr=field(Declared, "preconditioner_lr"),
    precond_init_scale=field(Declared, "preconditioner_init_scale"),
    merge_dims=hyper(True, "fit a tensor of three or more axes as a matrix"),
    seed=hyper(42, SEED),
    **SHARED,
    **ALONE,
)
class KronTorch(Kron):
    """Kron as kron-torch 0.3.3 has it; the options are `Kron`'s, by kron-torch's names and defaults.

    What differs from `Kron`, which follows psgd-jax:

    - `merge_dims`: a tensor of three or more axes is fitted as a matrix, all its axes but the last as rows,
      or its first where that has the smaller excess of columns over rows;
    - the update probability is the first group's, read at the step from 0;
    - the damped momentum, not the plain one, is preconditioned on the steps that fit;
    - factors are balanced by the geometric mean of their largest entries in their own dtype;
    - weight decay is on tensors of two or more axes only.

    With `momentum_into_precond_update=False` kron-torch overwrites `.grad` with the damped gradient; this
    class does so with `upstream=True`, which also fits a leaf without gradient until it overflows.
    """

    owner: ClassVar[str] = "kron_torch"
    fits: bool
    """Whether this step does, as the first group says."""
    first_count: ClassVar[int] = 0

    def build(self, params: Any, **options: Any) -> None:
        super().build(params, **options, scanned_layers=False)

    def first(self, param: torch.Tensor, group: dict[str, Any]) -> Factors:
        return first_factors(
            merged(tuple(param.shape), group["merge_dims"]),
            Shaping.of(group),
            group["precond_init_scale"],
            dtype=group["precond_dtype"] or wide(param.dtype),
            device=param.device,
        )

    def work(self, group: dict[str, Any], leaves: list[Leaf], *how: Any) -> Work:
        if group is self.param_groups[0]:
            self.fits = self.due(group)
        work = Work(group, leaves, self.drawn(group, leaves) if self.fits else None)
        group["count"] += 1
        return work

    def drawn(self, group: dict[str, Any], leaves: list[Leaf], *how: Any) -> Any:
        """Whether to balance, and a probe for each leaf."""
        step, names, probe = group["count"], self.names(), []
        for param, grad, *_ in leaves:
            shape = merged(tuple(param.shape), group["merge_dims"])
            like = torch.empty(shape, dtype=wide(grad.dtype), device=grad.device)
            probe.append(self.noise.normal(f"probe.{names[param]}", step, like))
        balance = any(len(leaf.state["Q"]) > 1 for leaf in leaves) and bool(
            self.noise.uniform("balance_u", step, torch.float64) < BALANCE_PROBABILITY
        )
        return balance, probe

    def step_group(self, work: Work) -> None:
        group, leaves, draws = work
        params, updates = [leaf.param for leaf in leaves], []
        for i, (leaf, m) in enumerate(zip(leaves, self.momenta(group, leaves), strict=True)):
            shape = merged(tuple(leaf.param.shape), group["merge_dims"])
            direction, qs = whole(m).reshape(shape).to(wide(m.dtype)), [whole(q) for q in leaf.state["Q"]]
            if draws is not None:
                balance, probe = draws
                direction, qs = self.fit_merged(leaf, qs, direction, probe[i], balance)
                leaf.state["Q"] = [spread(q, leaf.param) for q in qs]
            update = clip_rms(precondition(qs, direction))
            updates.append(spread(update.reshape(leaf.param.shape).to(leaf.param.dtype), leaf.param))
        for flat in (False, True):
            chosen = [i for i, param in enumerate(params) if (param.ndim < 2) == flat]
            decay = {**group, "weight_decay": 0.0 if flat else group["weight_decay"]}
            descend(decay, [params[i] for i in chosen], [updates[i] for i in chosen])

    def fit_merged(
        self, leaf: Leaf, qs: Factors, direction: torch.Tensor, v: torch.Tensor, balance: bool
    ) -> tuple[torch.Tensor, Factors]:
        """What is preconditioned at this step, and the factors after a fit."""
        _, grad, _, group, _ = leaf
        on_momentum = group["momentum_into_precond_update"]
        g = direction if on_momentum else whole(grad).reshape(direction.shape).to(direction.dtype)
        lr = torch.full((), group["precond_lr"], dtype=g.dtype, device=g.device)
        if group["upstream"] is None:
            # A leaf without gradient is fitted with a step of 0.
            lr = lr * is_alive(torch, g)
        damped = g + DAMPING * g.abs().mean() * v
        if balance and len(qs) > 1:
            qs = balanced(qs)
        if group["upstream"] is not None and not on_momentum:
            grad.copy_(spread(damped.reshape(grad.shape), grad))
        return damped if on_momentum else direction, fit_factors(qs, damped, v, lr)


def merged(shape: tuple[int, ...], merge: bool) -> tuple[int, ...]:
    if not merge or len(shape) < 3:
        return shape
    rows, columns = math.prod(shape[:-1]), math.prod(shape[1:])
    # Signed differences, as in the original: the first form wins nearly always.
    return (rows, shape[-1]) if shape[-1] - rows <= columns - shape[0] else (shape[0], columns)


def balanced(qs: Factors) -> Factors:
    norms = torch.stack([q.abs().max() for q in qs])
    mean = norms.log().mean().exp()
    return [q * (mean / norm) for q, norm in zip(qs, norms, strict=True)]
