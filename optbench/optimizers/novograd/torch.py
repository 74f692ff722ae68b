"""NovoGrad as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.novograd`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from optbench.optimizers.novograd import check
from optbench.ranges import require
from optbench.rules.torch_optimizer import CheckedOptimizer, Leaf, value_of


class Novograd(CheckedOptimizer):
    """NovoGrad: gradients normalised layer by layer, then momentum; the numbers of `optax.novograd`.

    Args:
        params: parameters, named parameters or groups, as of any torch optimizer.
        lr: step size.
        b1: decay of the momentum.
        b2: decay of the squared norm.
        eps: added to the norm.
        eps_root: added to the squared norm, under the root.
        weight_decay: decay inside the momentum.
        upstream: divide also by a divisor of 0, which is NaN after a zero first gradient with eps = 0.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a gradient is sparse.
    """

    owner: ClassVar[str] = "novograd"

    def __init__(
        self,
        params: Any,
        lr: float = 0.001,
        b1: float = 0.9,
        b2: float = 0.25,
        eps: float = 1e-6,
        eps_root: float = 0.0,
        weight_decay: float = 0.0,
        *,
        upstream: bool = False,
    ):
        defaults = {"lr": lr, "b1": b1, "b2": b2, "eps": eps, "eps_root": eps_root}
        super().__init__(params, {**defaults, "weight_decay": weight_decay, "upstream": upstream})

    def check_group(self, group: dict[str, Any]) -> None:
        """The ranges of a group's own hyperparameters."""
        require("novograd", "[0, inf)", lr=group["lr"])
        check(group["b1"], group["b2"], group["eps"], group["eps_root"], group["weight_decay"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step."""
        loss = value_of(closure)
        for leaf in self.leaves():
            self._step_leaf(leaf)
        return loss

    def _step_leaf(self, leaf: Leaf) -> None:
        param, grad, state, group, _ = leaf
        squared = grad.square().sum()
        if not state:
            state["step"] = 0
            state["mu"] = torch.zeros_like(param, memory_format=torch.preserve_format)
            state["nu"] = squared
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
