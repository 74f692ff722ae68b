"""Expectigrad as a torch.optim optimizer; the mathematics is on the page of the room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from optbench.optimizers.expectigrad import check
from optbench.rules.torch_optimizer import CheckedOptimizer, Leaf, value_of, wide


class Expectigrad(CheckedOptimizer):
    """Expectigrad: the gradient over the root of its arithmetic mean square, then momentum.

    Args:
        params: parameters, named parameters or groups, as of any torch optimizer.
        lr: step size.
        beta: decay of the momentum; 0 keeps no momentum.
        eps: added to the divisor.
        sparse_counter: count, entry by entry, only the steps with a gradient.
        upstream: keep sums and counters in the parameter's dtype, as the original.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a gradient is sparse.
    """

    owner: ClassVar[str] = "expectigrad"
    wide_entries: ClassVar[tuple[str, ...]] = ("sum", "counter")

    def __init__(
        self,
        params: Any,
        lr: float = 0.001,
        beta: float = 0.9,
        eps: float = 1e-8,
        sparse_counter: bool = True,
        *,
        upstream: bool = False,
    ):
        defaults = {"lr": lr, "beta": beta, "eps": eps, "sparse_counter": sparse_counter}
        super().__init__(params, {**defaults, "upstream": upstream})

    def check_group(self, group: dict[str, Any]) -> None:
        """The ranges of a group's own hyperparameters."""
        check(group["lr"], group["beta"], group["eps"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step."""
        loss = value_of(closure)
        for leaf in self.leaves():
            self._step_leaf(leaf)
        return loss

    def _step_leaf(self, leaf: Leaf) -> None:
        param, grad, state, group, _ = leaf
        if not state:
            dtype = param.dtype if group["upstream"] else wide(param.dtype)
            entries = {"sum": dtype}
            if group["sparse_counter"]:
                entries["counter"] = dtype
            if group["beta"] > 0:
                entries["momentum"] = param.dtype
            state["step"] = 0
            for key, kept in entries.items():
                state[key] = torch.zeros_like(param, dtype=kept, memory_format=torch.preserve_format)
        state["step"] += 1
        square = grad.to(state["sum"].dtype).square()
        total = state["sum"].add_(square)
        if "counter" in state:
            counter = state["counter"].add_(square.sign())
            mean = torch.where(counter > 0, total / counter, 0)
        else:
            mean = total / state["step"]
        move = grad / mean.sqrt_().add_(group["eps"])
        rate = group["lr"]
        if "momentum" in state:
            beta = group["beta"]
            move = state["momentum"].mul_(beta).add_(move, alpha=1 - beta)
            rate /= 1 - beta ** state["step"]
        param.add_(move, alpha=-rate)
