"""Kron with the rules of the package kron-torch, for those who switch from it."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch

from optbench.fields import hyper
from optbench.optimizers.kron import ALONE, FITTING
from optbench.optimizers.kron import Kron as Declared
from optbench.optimizers.kron.torch import Factors, Kron
from optbench.optimizers.psgd import BALANCE_PROBABILITY, SEED, SHARED
from optbench.optimizers.psgd.torch_base import Work, descend
from optbench.rules.arguments import field, rate
from optbench.rules.torch_optimizer import Leaf, optimizer, wide
from optbench.rules.torch_shards import spread


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
    damping: ClassVar[float] = 2.0**-11.5
    """sqrt of the float32 machine epsilon, not rounded to float32."""
    older: ClassVar[str] = ""
    fit_rate: ClassVar[str] = "precond_lr"
    first_scale: ClassVar[str] = "precond_init_scale"

    def build(self, params: Any, **options: Any) -> None:
        super().build(params, **options, scanned_layers=False)

    def shape(self, param: torch.Tensor, group: dict[str, Any]) -> tuple[int, ...]:
        return merged(tuple(param.shape), group["merge_dims"])

    def work(self, group: dict[str, Any], leaves: list[Leaf], *how: Any) -> Work:
        if group is self.param_groups[0]:
            self.fits = self.due(group)
        work = Work(group, leaves, self.drawn(group, leaves) if self.fits else None)
        group["count"] += 1
        return work

    def drawn(self, group: dict[str, Any], leaves: list[Leaf], *how: Any) -> Any:
        """Whether to balance, and a probe for each leaf."""
        step, probe = group["count"], []
        for param, grad, _, _, name in leaves:
            like = torch.empty(self.shape(param, group), dtype=wide(grad.dtype), device=grad.device)
            probe.append(self.noise.normal(f"probe.{name}", step, like))
        balance = any(len(leaf.state["Q"]) > 1 for leaf in leaves) and bool(
            self.noise.uniform("balance_u", step, torch.float64) < BALANCE_PROBABILITY
        )
        return balance, probe

    def step_group(self, work: Work) -> None:
        group, params, updates = work.group, [leaf.param for leaf in work.leaves], self.updates(work)
        for flat in (False, True):
            chosen = [i for i, param in enumerate(params) if (param.ndim < 2) == flat]
            decay = {**group, "weight_decay": 0.0 if flat else group["weight_decay"]}
            descend(decay, [params[i] for i in chosen], [updates[i] for i in chosen])

    def preconditioned(self, leaf: Leaf, m: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        on_momentum = leaf.group["momentum_into_precond_update"]
        if leaf.group["upstream"] is not None and not on_momentum:
            leaf.grad.copy_(spread(g.reshape(leaf.grad.shape), leaf.grad))
        return g if on_momentum else m

    def balanced(self, group: dict[str, Any], qs: Factors) -> Factors:
        norms = torch.stack([q.abs().max() for q in qs])
        mean = norms.log().mean().exp()
        return [q * (mean / norm) for q, norm in zip(qs, norms, strict=True)]


def merged(shape: tuple[int, ...], merge: bool) -> tuple[int, ...]:
    if not merge or len(shape) < 3:
        return shape
    rows, columns = math.prod(shape[:-1]), math.prod(shape[1:])
    # Signed differences, as in the original: the first form wins nearly always.
    return (rows, shape[-1]) if shape[-1] - rows <= columns - shape[0] else (shape[0], columns)
