"""The rules of ngc-learn as torch.optim optimizers; the mathematics is on the pages of their dataclasses.

What ngc-learn calls `eta` is `lr` here, so that torch's schedulers find it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from optbench.optimizers.ngc import check_adam, check_rate
from optbench.ranges import require
from optbench.rules.torch_optimizer import CheckedOptimizer, Leaf, rounded, value_of, wide


def first_state(leaf: Leaf, *names: str) -> None:
    """Zeros in at least float32 under each name, and no step taken."""
    for name in names:
        leaf.state[name] = torch.zeros_like(
            leaf.param, dtype=wide(leaf.param.dtype), memory_format=torch.preserve_format
        )
    leaf.state["step"] = 0


class NgcAdam(CheckedOptimizer):
    """Adam as in ngc-learn.

    Args:
        params: parameters, named parameters or groups, as of any torch optimizer.
        lr: step size.
        beta1: decay of the average gradient.
        beta2: decay of the average square.
        eps: added to the divisor.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a gradient is sparse.
    """

    owner: ClassVar[str] = "ngc_adam"
    wide_entries: ClassVar[tuple[str, ...]] = ("g1", "g2")

    def __init__(
        self, params: Any, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
    ):
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps})

    def check_group(self, group: dict[str, Any]) -> None:
        """The ranges of a group's own hyperparameters."""
        check_rate("ngc_adam", lr=group["lr"])
        check_adam(group["beta1"], group["beta2"], group["eps"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step."""
        loss = value_of(closure)
        for leaf in self.leaves():
            param, grad, state, group, _ = leaf
            if not state:
                first_state(leaf, "g1", "g2")
            state["step"] += 1
            b1, b2 = (rounded(group[name], state["g1"].dtype) for name in ("beta1", "beta2"))
            grad = grad.to(state["g1"].dtype)
            state["g1"].mul_(b1).add_(grad, alpha=1 - b1)
            state["g2"].mul_(b2).addcmul_(grad, grad, value=1 - b2)
            mean = state["g1"] / (1 - b1 ** state["step"])
            divisor = (state["g2"] / (1 - b2 ** state["step"])).sqrt_().add_(group["eps"])
            param.add_(mean.div_(divisor), alpha=-group["lr"])
        return loss


class NgcNag(CheckedOptimizer):
    """Nesterov's accelerated gradient as in ngc-learn.

    Args:
        params: parameters, named parameters or groups, as of any torch optimizer.
        lr: step size.
        mu: weight of the last move.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a gradient is sparse.
    """

    owner: ClassVar[str] = "ngc_nag"
    wide_entries: ClassVar[tuple[str, ...]] = ("phi",)

    def __init__(self, params: Any, lr: float = 0.01, mu: float = 0.9):
        super().__init__(params, {"lr": lr, "mu": mu})

    def check_group(self, group: dict[str, Any]) -> None:
        """The ranges of a group's own hyperparameters."""
        check_rate("ngc_nag", lr=group["lr"])
        require("ngc_nag", "[0, 1)", mu=group["mu"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step."""
        loss = value_of(closure)
        for leaf in self.leaves():
            param, grad, state, group, _ = leaf
            if not state:
                first_state(leaf, "phi")
            state["step"] += 1
            old = state["phi"]
            phi = param.to(old.dtype).add(grad, alpha=-group["lr"])
            param.copy_(phi.add(phi - old, alpha=group["mu"]) if state["step"] > 1 else phi)
            state["phi"] = phi
        return loss


class NgcSgd(CheckedOptimizer):
    """Gradient descent as in ngc-learn.

    Args:
        params: parameters, named parameters or groups, as of any torch optimizer.
        lr: step size.

    Raises:
        ValueError: the step size is out of its range.
        RuntimeError: a gradient is sparse.
    """

    owner: ClassVar[str] = "ngc_sgd"

    def __init__(self, params: Any, lr: float = 0.001):
        super().__init__(params, {"lr": lr})

    def check_group(self, group: dict[str, Any]) -> None:
        """The range of a group's own step size."""
        check_rate("ngc_sgd", lr=group["lr"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step."""
        loss = value_of(closure)
        leaves = list(self.leaves())
        for group in self.param_groups:
            mine = [leaf for leaf in leaves if leaf.group is group]
            if mine:
                params, grads = [leaf.param for leaf in mine], [leaf.grad for leaf in mine]
                torch._foreach_add_(params, grads, alpha=-group["lr"])  # pyright: ignore[reportPrivateImportUsage]
        return loss
