"""What all PSGD optimizers in PyTorch share: checked options, named draws, momentum, exact state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from optbench.optimizers.psgd import check_release
from optbench.protocol import Noise
from optbench.rules.torch import SeedNoise
from optbench.rules.torch_optimizer import CheckedOptimizer, Leaf, outside
from optbench.rules.torch_shards import joined, local, spread

foreach: Any = torch
"""Operations on lists of tensors; torch declares no types for them."""


class Work(NamedTuple):
    """A step of the parameters of a group."""

    group: dict[str, Any]
    leaves: list[Leaf]
    draws: Any
    """The random numbers of a fit; None on a step without one."""


class Preconditioned(CheckedOptimizer):
    """What Kron, XMat, LRA and Affine share.

    Each param group counts its own steps in `group['count']`. Draws are pure in (name, step): a parameter's
    are named after it, or after its place where the optimizer was given parameters without names.
    """

    kept: ClassVar[tuple[str, ...]] = ("noise",)
    wide_entries: ClassVar[tuple[str, ...] | None] = None

    releases: ClassVar[tuple[str, ...]]
    """What `upstream` may ask for, the newest first."""

    noise: Noise

    def build(self, params: Any, *, noise: Noise | None, seed: int, **options: Any) -> None:
        self.noise = SeedNoise(seed) if noise is None else noise
        super().build(params, **options, count=0)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        group["upstream"] = check_release(self.owner, group["upstream"], self.releases)

    @outside
    def prepared(self, *how: Any) -> list[Work]:
        """What each group with a gradient does in this step; counted, and its random numbers drawn."""
        leaves = super().prepared()
        own = [(group, [leaf for leaf in leaves if leaf.group is group]) for group in self.param_groups]
        return [work for group, mine in own if (work := self.work(group, mine, *how)).leaves]

    def ready(self, leaf: Leaf) -> None:
        param, _, state, group, _ = leaf
        state["step"] = state.get("step", 0) + 1
        if group["b1"] != 0 and "mu" not in state:
            state["mu"] = torch.zeros_like(param, dtype=group["mu_dtype"] or param.dtype)

    def work(self, group: dict[str, Any], leaves: list[Leaf], *how: Any) -> Work:
        work = Work(group, leaves, self.drawn(group, leaves, *how) if leaves else None)
        group["count"] += bool(leaves)
        return work

    def drawn(self, group: dict[str, Any], leaves: list[Leaf], *how: Any) -> Any:
        """What a fit of this group draws at this step, or None where it has none."""
        raise NotImplementedError

    def momenta(self, group: dict[str, Any], leaves: list[Leaf]) -> list[torch.Tensor]:
        """Update the momenta and return the directions, bias-corrected by each parameter's own steps."""
        b1, nesterov = group["b1"], group.get("nesterov", False)
        if b1 == 0 or not leaves:
            return [leaf.grad for leaf in leaves]
        grads, states = [local(leaf.grad) for leaf in leaves], [leaf.state for leaf in leaves]
        held = [local(state["mu"]) for state in states]
        mus = [mu.to(grad.dtype) for mu, grad in zip(held, grads, strict=True)]
        foreach._foreach_mul_(mus, b1)
        foreach._foreach_add_(mus, grads, alpha=1 - b1)
        for kept, mu in zip(held, mus, strict=True):
            if mu is not kept:
                kept.copy_(mu)
        steps = [state["step"] for state in states]
        if not nesterov:
            ahead = foreach._foreach_div(mus, [1 - b1**t for t in steps])
        else:
            ahead = foreach._foreach_mul(mus, [b1 / (1 - b1 ** (t + 1)) for t in steps])
            foreach._foreach_add_(ahead, foreach._foreach_mul(grads, [(1 - b1) / (1 - b1**t) for t in steps]))
        return [joined(m, leaf.param) for m, leaf in zip(ahead, leaves, strict=True)]


def descend(group: dict[str, Any], params: list[torch.Tensor], updates: list[torch.Tensor]) -> None:
    """theta <- theta - lr (u + weight_decay theta)."""
    if not params:
        return
    updates = [local(spread(u, param)) for u, param in zip(updates, params, strict=True)]
    params = [local(param) for param in params]
    if group["weight_decay"] > 0:
        updates = list(foreach._foreach_add(updates, params, alpha=group["weight_decay"]))
    foreach._foreach_sub_(params, foreach._foreach_mul(updates, group["lr"]))


@dataclass(frozen=True)
class precond_update_prob_schedule:
    """Anneal the update probability: flat at `max_prob`, then exponential decay to `min_prob`.

    p(n) = min(max(max_prob exp(-decay (n - flat_start)), min_prob), max_prob), n the step from 1, in
    float32. An object, so that an optimizer that holds one can be pickled.
    """

    max_prob: float = 1.0
    min_prob: float = 0.03
    decay: float = 0.001
    flat_start: float = 500

    def __call__(self, n: int) -> np.float32:
        decayed = np.float32(self.max_prob) * np.exp(
            np.float32(-self.decay) * np.float32(n - self.flat_start)
        )
        return np.clip(decayed, np.float32(self.min_prob), np.float32(self.max_prob))


# A param group holds it: `torch.load` with weights_only, its default, refuses what it does not know.
torch.serialization.add_safe_globals([precond_update_prob_schedule])
