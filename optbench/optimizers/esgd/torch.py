"""ESGD-M as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.esgd`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from optbench.fields import hyper
from optbench.optimizers.esgd import ALONE, mixing
from optbench.optimizers.esgd import ESGD as Declared
from optbench.protocol import Noise, normals
from optbench.rules.arguments import rate
from optbench.rules.torch import SeedNoise
from optbench.rules.torch_optimizer import CheckedOptimizer, Leaf, optimizer, outside, wide, zeros


def shared(name: str) -> Any:
    """An entry of every param group as an attribute: what is saved of an optimizer, however, has the groups."""

    def write(self: CheckedOptimizer, value: Any) -> None:
        for group in self.param_groups:
            group[name] = value

    return property(lambda self: self.param_groups[0][name], write)


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
    `step` must call `backward` likewise. The cadence is that of the first group. `GradScaler.step` is supported,
    without `GradScaler.unscale_` before it.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a gradient is sparse; on a due step no gradient has a graph, or gradients were unscaled before.
    """

    counters: ClassVar[tuple[str, ...]] = ("update_d_every", "d_warmup", "steps", "steps_since_d")
    kept: ClassVar[tuple[str, ...]] = ("noise", "upstream")
    wide_entries: ClassVar[tuple[str, ...] | None] = ("exp_avg_d",)
    update_d_every, d_warmup, steps, steps_since_d = map(shared, counters)

    noise: Noise
    _step_supports_amp_scaling: ClassVar[bool] = True
    """GradScaler then leaves the unscaling to `step`, where it reaches the products with the Hessian.

    For each step it sets `found_inf`, and `grad_scale`: what the loss was multiplied by, None where gradients are
    unscaled already.
    """

    def build(
        self, params: Any, *, v: float | None, noise: Noise | None, seed: int, upstream: bool, **options: Any
    ) -> None:
        if v is not None:
            options["nu"] = mixing(options["betas"], options["nu"], v).nu
        self.noise, self.upstream = SeedNoise(seed) if noise is None else noise, upstream
        super().build(params, **options, steps=0, steps_since_d=0)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        mixing(group["betas"], group["nu"], None)

    def should_create_graph(self) -> bool:
        """Whether the next `step` differentiates the gradients, so that they need their graph."""
        return self.steps < self.d_warmup or self.steps_since_d >= self.update_d_every

    def ready(self, leaf: Leaf) -> None:
        param, _, state, _, _ = leaf
        if not state:
            kept = param.dtype if self.upstream else wide(param.dtype)
            state.update(exp_avg=zeros(param), exp_avg_d=zeros(param, kept))
            state["exp_avg_bias_corr"] = state["exp_avg_d_bias_corr"] = state["lr_warmup_cumprod"] = 1.0

    @outside
    def prepared(self) -> list[tuple[Leaf, torch.Tensor | None]]:
        """The leaves, gradients unscaled, and their products with the Hessian where some are due."""
        if getattr(self, "found_inf", False):
            return []  # a step that GradScaler leaves out
        leaves, scale = super().prepared(), getattr(self, "grad_scale", None)
        products: list[Any] = [None] * len(leaves)
        if self.should_create_graph():
            products = self._products(leaves, scale)
            self.steps_since_d = 0
        self.steps += 1
        self.steps_since_d += 1
        grads = [leaf.grad.detach() if scale is None else leaf.grad.detach() / scale for leaf in leaves]
        plain = [leaf._replace(grad=grad) for leaf, grad in zip(leaves, grads, strict=True)]
        return list(zip(plain, products, strict=True))

    def _products(self, leaves: list[Leaf], scale: torch.Tensor | None) -> list[torch.Tensor]:
        curved = [leaf for leaf in leaves if leaf.grad.grad_fn is not None]
        missing = next((leaf.name for leaf in leaves if leaf.grad.grad_fn is None), None)
        # Gradients of 0 without graphs have no curvature; `torch.distributed.checkpoint` makes a state from such.
        if missing is not None and (
            self.upstream or (not curved and any(leaf.grad.any() for leaf in leaves))
        ):
            raise RuntimeError(
                f"esgd: the gradient of parameter {missing} has no graph on a step that needs a product with "
                "the Hessian. Call loss.backward(create_graph=optimizer.should_create_graph()); a loss that "
                "is linear in every parameter has no curvature to use"
            )
        if hasattr(self, "found_inf") and scale is None:
            raise RuntimeError(
                "esgd: the gradients were unscaled before a step that needs a product with the Hessian, whose scale "
                "is then unknown. Leave out scaler.unscale_(optimizer): scaler.step(optimizer) unscales both"
            )
        if not curved:
            return [torch.zeros_like(leaf.param) for leaf in leaves]
        probe = signs(self.noise, self.steps, {leaf.name: leaf.param for leaf in leaves})
        with torch.enable_grad():
            products = torch.autograd.grad(
                [leaf.grad for leaf in curved],
                [leaf.param for leaf in leaves],
                grad_outputs=[probe[leaf.name] for leaf in curved],
                allow_unused=True,
                materialize_grads=True,
            )
        return list(products) if scale is None else [product / scale for product in products]

    def step_leaf(self, leaf: Any) -> None:
        (param, grad, state, group, _), product = leaf
        b1, b2, nu = mixing(group["betas"], group["nu"], None)
        average, squares = state["exp_avg"], state["exp_avg_d"]
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
        for name, value in state_dict.get("global_state", {}).items():
            setattr(self, name, value)


def signs(noise: Noise, step: int, params: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A probe of -1 and +1 for each parameter: the signs of the normal draws named `probe.<name>`."""
    drawn = normals(noise, "probe", step, params)
    return {name: torch.where(draw < 0, -1.0, 1.0).to(draw) for name, draw in drawn.items()}
