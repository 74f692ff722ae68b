"""ESGD-M as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.esgd`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from optbench.fields import hyper
from optbench.optimizers.esgd import ALONE, mixing
from optbench.optimizers.esgd import ESGD as Declared
from optbench.protocol import Noise, normals
from optbench.rules.arguments import check, rate
from optbench.rules.torch import SeedNoise
from optbench.rules.torch_optimizer import CheckedOptimizer, Leaf, optimizer, wide, zeros


@optimizer(
    Declared,
    "lr betas nu lr_warmup eps weight_decay update_d_every d_warmup * v noise seed upstream",
    lr=rate(Declared),
    noise=hyper(None, "where the signs come from; None draws from `seed`, the same at the same step"),
    seed=hyper(0, "seed of the default noise"),
    upstream=hyper(
        False,
        "as the original: refuse a gradient without graph even where others have one, and keep the squared "
        "products in the dtype of the parameter",
    ),
    **ALONE,
)
class ESGD(CheckedOptimizer):
    """ESGD-M: momentum divided by the estimated row norms of the Hessian.

    Call `loss.backward(create_graph=optimizer.should_create_graph())`, then `step()`, and clear the gradients
    with `zero_grad()` (set to None): a gradient that keeps its graph keeps the whole forward pass. A closure of
    `step` must call `backward` likewise.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a gradient is sparse, or on a due step no gradient has a graph.
    """

    counters: ClassVar[tuple[str, ...]] = ("update_d_every", "d_warmup", "steps", "steps_since_d")
    kept: ClassVar[tuple[str, ...]] = (*counters, "noise", "upstream")
    wide_entries: ClassVar[tuple[str, ...]] = ("exp_avg_d",)

    noise: Noise

    def build(
        self, params: Any, *, v: float | None, noise: Noise | None, seed: int, upstream: bool, **options: Any
    ) -> None:
        if v is not None:
            options["nu"] = mixing(options["betas"], options["nu"], v).nu
        cadence = {name: options.pop(name) for name in ("update_d_every", "d_warmup")}
        check(self.owner, self.arguments, cadence)
        self.update_d_every, self.d_warmup = cadence.values()
        self.steps = self.steps_since_d = 0
        self.noise, self.upstream = SeedNoise(seed) if noise is None else noise, upstream
        super().build(params, **options)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        mixing(group["betas"], group["nu"], None)

    def should_create_graph(self) -> bool:
        """Whether the next `step` differentiates the gradients, so that they need their graph."""
        return self.steps < self.d_warmup or self.steps_since_d >= self.update_d_every

    def advance(self) -> None:
        leaves = list(self.leaves())
        products: list[torch.Tensor] | None = None
        if self.should_create_graph():
            products = self._products(leaves)
            self.steps_since_d = 0
        for i, leaf in enumerate(leaves):
            self._step_leaf(leaf, products[i] if products else None)
        self.steps += 1
        self.steps_since_d += 1

    def _products(self, leaves: list[Leaf]) -> list[torch.Tensor]:
        """The Hessian times signs, leaf by leaf; a leaf without curvature gets zeros."""
        curved = [leaf for leaf in leaves if leaf.grad.grad_fn is not None]
        missing = next((leaf.name for leaf in leaves if leaf.grad.grad_fn is None), None)
        if missing is not None and (self.upstream or not curved):
            raise RuntimeError(
                f"esgd: the gradient of parameter {missing} has no graph on a step that needs a product with "
                "the Hessian. Call loss.backward(create_graph=optimizer.should_create_graph()); a loss that "
                "is linear in every parameter has no curvature to use"
            )
        if not leaves:
            return []
        draws = normals(self.noise, "probe", self.steps, {leaf.name: leaf.param for leaf in leaves})
        signs = {leaf.param: torch.where(draws[leaf.name] < 0, -1.0, 1.0).to(leaf.param) for leaf in leaves}
        with torch.enable_grad():
            products = torch.autograd.grad(
                [leaf.grad for leaf in curved],
                [leaf.param for leaf in leaves],
                grad_outputs=[signs[leaf.param] for leaf in curved],
                allow_unused=True,
                materialize_grads=True,
            )
        return list(products)

    def _step_leaf(self, leaf: Leaf, product: torch.Tensor | None) -> None:
        param, grad, state, group, _ = leaf
        if not state:
            kept = param.dtype if self.upstream else wide(param.dtype)
            state.update(exp_avg=zeros(param), exp_avg_d=zeros(param, kept))
            state["exp_avg_bias_corr"] = state["exp_avg_d_bias_corr"] = state["lr_warmup_cumprod"] = 1.0
        b1, b2, nu = mixing(group["betas"], group["nu"], None)
        average, squares = state["exp_avg"], state["exp_avg_d"]
        grad = grad.detach()
        average.mul_(b1).add_(grad, alpha=1 - b1)
        state["exp_avg_bias_corr"] *= b1
        if product is not None:
            product = product.to(squares.dtype)
            squares.mul_(b2).addcmul_(product, product, value=1 - b2)
            state["exp_avg_d_bias_corr"] *= b2
        state["lr_warmup_cumprod"] *= group["lr_warmup"]
        rate = group["lr"] * (1 - state["lr_warmup_cumprod"])
        # A parameter whose first gradient came after the last due step has no product yet.
        seen = 1 - state["exp_avg_d_bias_corr"]
        divisor = squares.sqrt().div_(seen**0.5 if seen else 1.0).add_(group["eps"])
        direction = torch.lerp(average, grad, 1 - nu).to(divisor.dtype).div_(divisor)
        if group["weight_decay"]:
            param.mul_(1 - group["weight_decay"] * rate)
        param.add_(direction, alpha=-rate / (1 - state["exp_avg_bias_corr"] * nu))

    def state_dict(self) -> dict[str, Any]:
        """The state, with the counters of the cadence under `global_state`, as the original keeps them."""
        return {**super().state_dict(), "global_state": {name: getattr(self, name) for name in self.counters}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for name, value in state_dict["global_state"].items():
            setattr(self, name, value)
