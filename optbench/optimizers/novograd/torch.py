"""NovoGrad as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.novograd`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from optbench.fields import hyper
from optbench.optimizers.novograd import Novograd as Declared
from optbench.rules.arguments import rate, takes
from optbench.rules.torch_optimizer import CheckedOptimizer, Leaf, zeros

UPSTREAM = hyper(
    False, "divide also by a divisor of 0, which is NaN after a zero first gradient with eps = 0"
)


class Novograd(CheckedOptimizer):
    """NovoGrad: gradients normalised layer by layer, then momentum; the numbers of `optax.novograd`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a gradient is sparse.
    """

    owner: ClassVar[str] = "novograd"

    @takes(Declared, "lr b1 b2 eps eps_root weight_decay * upstream", lr=rate(Declared), upstream=UPSTREAM)
    def __init__(self, params: Any, **options: Any):
        super().__init__(params, options)

    def step_leaf(self, leaf: Leaf) -> None:
        param, grad, state, group, _ = leaf
        squared = grad.square().sum()
        if not state:
            state.update(step=0, mu=zeros(param), nu=squared)
        else:
            state["nu"].mul_(group["b2"]).add_(squared, alpha=1 - group["b2"])
        state["step"] += 1
        divisor = (state["nu"] + group["eps_root"]).sqrt_().add_(group["eps"])
        direction = grad / divisor
        if not group["upstream"]:
            direction = torch.where(divisor > 0, direction, 0)
        if group["weight_decay"]:
            direction = direction.add(param, alpha=group["weight_decay"])
        state["mu"].mul_(group["b1"]).add_(direction)
        param.add_(state["mu"], alpha=-group["lr"])
