"""ESGD-M as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.esgd`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from optbench.optimizers.esgd import check, mixing
from optbench.protocol import Noise, normals
from optbench.rules.torch import SeedNoise
from optbench.rules.torch_optimizer import CheckedOptimizer, Leaf, value_of, wide


class ESGD(CheckedOptimizer):
    """ESGD-M: momentum divided by the estimated row norms of the Hessian.

    Call `loss.backward(create_graph=optimizer.should_create_graph())`, then `step()`, and clear the gradients
    with `zero_grad()` (set to None): a gradient that keeps its graph keeps the whole forward pass.

    Args:
        params: parameters, named parameters or groups, as of any torch optimizer.
        lr: step size.
        betas: decay of the average gradient and of the average squared product.
        nu: weight of the average in the step; None is betas[0].
        lr_warmup: decay of the exponential warmup of the step size; 0 is none.
        eps: added to the divisor.
        weight_decay: decoupled decay times the step size.
        update_d_every: steps between products after the first ones.
        d_warmup: first steps that all take a product.
        v: the older name of nu.
        noise: where the signs come from; None draws from `seed`, the same at the same step.
        seed: seed of the default noise.
        upstream: as the original: refuse a gradient without graph even where others have one, and keep the
            squared products in the dtype of the parameter.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a gradient is sparse, or on a due step no gradient has a graph.
    """

    owner: ClassVar[str] = "esgd"
    kept: ClassVar[tuple[str, ...]] = (
        "update_d_every",
        "d_warmup",
        "steps",
        "steps_since_d",
        "noise",
        "upstream",
    )
    wide_entries: ClassVar[tuple[str, ...]] = ("exp_avg_d",)

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        nu: float | None = None,
        lr_warmup: float = 0.99,
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        update_d_every: int = 10,
        d_warmup: int = 20,
        *,
        v: float | None = None,
        noise: Noise | None = None,
        seed: int = 0,
        upstream: bool = False,
    ):
        nu = mixing(betas, nu, v).nu if v is not None else nu
        check(lr, lr_warmup, eps, weight_decay, update_d_every, d_warmup)
        self.update_d_every, self.d_warmup = update_d_every, d_warmup
        self.steps = self.steps_since_d = 0
        self.noise: Noise = SeedNoise(seed) if noise is None else noise
        self.upstream = upstream
        defaults = {"lr": lr, "betas": betas, "nu": nu, "lr_warmup": lr_warmup, "eps": eps}
        super().__init__(params, {**defaults, "weight_decay": weight_decay})

    def check_group(self, group: dict[str, Any]) -> None:
        """The ranges of a group's own hyperparameters."""
        mixing(group["betas"], group["nu"], None)
        check(group["lr"], group["lr_warmup"], group["eps"], group["weight_decay"], 1, 1)

    def should_create_graph(self) -> bool:
        """Whether the next `step` differentiates the gradients, so that they need their graph."""
        return self.steps < self.d_warmup or self.steps_since_d >= self.update_d_every

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; a closure must call `backward(create_graph=self.should_create_graph())`."""
        loss = value_of(closure)
        leaves = list(self.leaves())
        products: list[torch.Tensor] | None = None
        if self.should_create_graph():
            products = self._products(leaves)
            self.steps_since_d = 0
        for i, leaf in enumerate(leaves):
            self._step_leaf(leaf, products[i] if products else None)
        self.steps += 1
        self.steps_since_d += 1
        return loss

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
            state["exp_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)
            dtype = param.dtype if self.upstream else wide(param.dtype)
            state["exp_avg_d"] = torch.zeros_like(param, dtype=dtype, memory_format=torch.preserve_format)
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
        names = ("update_d_every", "d_warmup", "steps", "steps_since_d")
        return {**super().state_dict(), "global_state": {name: getattr(self, name) for name in names}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, cadence included."""
        super().load_state_dict(state_dict)
        for name, value in state_dict["global_state"].items():
            setattr(self, name, value)
