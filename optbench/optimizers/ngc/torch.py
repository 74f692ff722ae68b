"""The rules of ngc-learn as torch.optim optimizers; the mathematics is on the pages of their dataclasses.

What ngc-learn calls `eta` is `lr` here, so that torch's schedulers find it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from optbench.optimizers import ngc as declared
from optbench.rules.arguments import field, rate
from optbench.rules.torch_optimizer import CheckedOptimizer, Leaf, optimizer, outside, rounded, wide, zeros


@optimizer(
    declared.NgcAdam,
    "lr beta1 beta2 eps",
    lr=rate(declared.NgcAdam),
    beta1=field(declared.NgcAdam, "b1"),
    beta2=field(declared.NgcAdam, "b2"),
)
class NgcAdam(CheckedOptimizer):
    """Adam as in ngc-learn."""

    wide_entries: ClassVar[tuple[str, ...] | None] = ("g1", "g2")

    def ready(self, leaf: Leaf) -> None:
        param, _, state, _, _ = leaf
        if not state:
            state.update(g1=zeros(param, wide(param.dtype)), g2=zeros(param, wide(param.dtype)), step=0)
        state["step"] += 1

    @outside
    def prepared(self) -> list[Any]:
        """The leaves, each with the decays of its averages and the weights of what is new."""
        return [(leaf, *self.decays(leaf)) for leaf in super().prepared()]

    def decays(self, leaf: Leaf) -> tuple[float, float, float, float]:
        given, kept = (leaf.group["beta1"], leaf.group["beta2"]), leaf.state["g1"].dtype
        b1, b2 = (rounded(beta, kept) for beta in given)
        w1 = declared.weight(given[0], declared.NgcAdam.b1, b1)
        return b1, b2, w1, declared.weight(given[1], declared.NgcAdam.b2, b2)

    def step_leaf(self, leaf: Any) -> None:
        (param, grad, state, group, _), b1, b2, w1, w2 = leaf
        grad = grad.to(state["g1"].dtype)
        state["g1"].mul_(b1).add_(grad, alpha=w1)
        state["g2"].mul_(b2).addcmul_(grad, grad, value=w2)
        mean = state["g1"] / (1 - b1 ** state["step"])
        divisor = (state["g2"] / (1 - b2 ** state["step"])).sqrt_().add_(group["eps"])
        param.add_(mean.div_(divisor), alpha=-group["lr"])


@optimizer(declared.NgcNag, "lr mu", lr=rate(declared.NgcNag), mu=field(declared.NgcNag, "momentum"))
class NgcNag(CheckedOptimizer):
    """Nesterov's accelerated gradient as in ngc-learn."""

    wide_entries: ClassVar[tuple[str, ...] | None] = ("phi",)

    def ready(self, leaf: Leaf) -> None:
        param, _, state, _, _ = leaf
        if not state:
            state.update(phi=zeros(param, wide(param.dtype)), step=0)
        state["step"] += 1

    def step_leaf(self, leaf: Leaf) -> None:
        param, grad, state, group, _ = leaf
        old = state["phi"]
        phi = param.to(old.dtype).add(grad, alpha=-group["lr"])
        param.copy_(phi.add(phi - old, alpha=group["mu"]) if state["step"] > 1 else phi)
        state["phi"] = phi


@optimizer(declared.NgcSgd, "lr", lr=rate(declared.NgcSgd))
class NgcSgd(CheckedOptimizer):
    """Gradient descent as in ngc-learn."""

    def advance(self, leaves: list[Leaf]) -> None:
        for group in self.param_groups:
            mine = [leaf for leaf in leaves if leaf.group is group]
            if mine:
                params, grads = [leaf.param for leaf in mine], [leaf.grad for leaf in mine]
                torch._foreach_add_(params, grads, alpha=-group["lr"])  # pyright: ignore[reportPrivateImportUsage]
