"""NovoGrad as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.novograd`."""

from __future__ import annotations

from typing import ClassVar

import torch

from optbench.fields import hyper
from optbench.optimizers.novograd import Novograd as Declared
from optbench.rules.arguments import rate
from optbench.rules.torch_optimizer import CheckedOptimizer, Leaf, optimizer, wide, zeros
from optbench.rules.torch_shards import whole

UPSTREAM = hyper(
    False, "divide also by a divisor of 0, which is NaN after a zero first gradient with eps = 0"
)


@optimizer(Declared, "lr b1 b2 eps eps_root weight_decay * upstream", lr=rate(Declared), upstream=UPSTREAM)
class Novograd(CheckedOptimizer):
    """NovoGrad: gradients normalised layer by layer, then momentum; the numbers of `optax.novograd`."""

    wide_entries: ClassVar[tuple[str, ...] | None] = ("nu",)

    def ready(self, leaf: Leaf) -> None:
        param, _, state, _, _ = leaf
        if not state:
            nu = torch.zeros((), dtype=wide(param.dtype), device=param.device)
            state.update(step=0, mu=zeros(param), nu=nu)
        state["step"] += 1

    def step_leaf(self, leaf: Leaf) -> None:
        param, grad, state, group, _ = leaf
        grad = grad.to(state["nu"].dtype)
        squared = whole(grad.square().sum())
        if state["step"] == 1:
            state["nu"].copy_(squared)
        else:
            state["nu"].mul_(group["b2"]).add_(squared, alpha=1 - group["b2"])
        divisor = (state["nu"] + group["eps_root"]).sqrt_().add_(group["eps"])
        direction = grad / divisor
        if not group["upstream"]:
            # Not `divisor > 0`, which a NaN fails too.
            direction = torch.where(divisor != 0, direction, 0)
        if group["weight_decay"]:
            direction = direction.add(param, alpha=group["weight_decay"])
        state["mu"].mul_(group["b1"]).add_(direction)
        param.add_(state["mu"], alpha=-group["lr"])
