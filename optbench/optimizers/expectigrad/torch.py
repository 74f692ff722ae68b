"""Expectigrad as a torch.optim optimizer; the mathematics is on the page of the room."""

from __future__ import annotations

from typing import ClassVar

import torch

from optbench.fields import hyper
from optbench.optimizers.expectigrad import Expectigrad as Declared
from optbench.rules.arguments import field
from optbench.rules.torch_optimizer import CheckedOptimizer, Leaf, optimizer, wide, zeros


@optimizer(
    Declared,
    "lr beta eps sparse_counter * upstream",
    lr=field(Declared, "learning_rate"),
    upstream=hyper(False, "keep sums and counters in the parameter's dtype, as the original"),
)
class Expectigrad(CheckedOptimizer):
    """Expectigrad: the gradient over the root of its arithmetic mean square, then momentum."""

    wide_entries: ClassVar[tuple[str, ...] | None] = ("sum", "counter")

    def ready(self, leaf: Leaf) -> None:
        param, _, state, group, _ = leaf
        if not state:
            kept = param.dtype if group["upstream"] else wide(param.dtype)
            state.update(step=0, sum=zeros(param, kept))
            if group["sparse_counter"]:
                state["counter"] = zeros(param, kept)
            if group["beta"] > 0:
                state["momentum"] = zeros(param)
        state["step"] += 1

    def step_leaf(self, leaf: Leaf) -> None:
        param, grad, state, group, _ = leaf
        square = grad.to(state["sum"].dtype).square()
        total = state["sum"].add_(square)
        if "counter" in state:
            counter = state["counter"].add_(square.sign())
            mean = torch.where(counter != 0, total / counter, 0)
        else:
            mean = total / state["step"]
        move = grad / mean.sqrt_().add_(group["eps"])
        rate = group["lr"]
        if "momentum" in state:
            beta = group["beta"]
            move = state["momentum"].mul_(beta).add_(move, alpha=1 - beta)
            rate = rate / (1 - beta ** state["step"])
        param.add_(move, alpha=-rate)
