"""PSGD LRA as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.lra`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from optbench.optimizers.lra import LRA as Declared
from optbench.optimizers.psgd import BALANCE_PROBABILITY
from optbench.optimizers.psgd.torch import Factors, Fit, WholeGroup, group_class


class LRA(WholeGroup):
    """PSGD LRA: Q = (I + U V^T) diag(d) on each param group as one vector.

    `step()` whitens; `step(hvp=, vector=, update_preconditioner=)` fits the preconditioner to a
    Hessian-vector product, such as `optbench.optimizers.psgd.torch.hessian_helper` gives. The factors are in
    the state of a group's first parameter.

    Raises:
        ValueError: a hyperparameter is out of its range, a clip of 0 included.
        RuntimeError: a gradient is sparse.
    """

    owner: ClassVar[str] = "lra"
    releases: ClassVar[tuple[str, ...]] = Declared.releases

    @group_class(Declared, "uvd_rank_of_approximation")
    def __init__(self, params: Any, **options: Any):
        super().__init__(params, **options)

    def first(self, unit: torch.Tensor, group: dict[str, Any]) -> Factors:
        """d = 1, and small random U and V."""
        n, r = unit.numel(), group["uvd_rank_of_approximation"]
        like, small = unit.new_empty(n, r), (n * (r + 10)) ** 0.5
        return {
            "U": self.noise.normal("init_U", 0, like) / small,
            "V": self.noise.normal("init_V", 0, like) / small,
            "d": torch.ones_like(unit)[:, None],
        }

    def scale(self, factors: Factors, scale: torch.Tensor) -> Factors:
        """Q times a number."""
        return {**factors, "d": scale * factors["d"]}

    def fit(self, factors: Factors, given: Fit) -> Factors:
        """One relative gradient step of d and of one of U and V."""
        assert given.v is not None
        U, V = factors["U"], factors["V"]
        h, v, d = given.h, given.v, factors["d"][:, 0]
        if given.uniform("balance_u") < BALANCE_PROBABILITY:
            ratio = (torch.linalg.vector_norm(U) / torch.linalg.vector_norm(V)).sqrt()
            U, V = U / ratio, V * ratio
        a = d * h
        a = a + U @ (V.T @ a)
        curved = d * (a + V @ (U.T @ a))
        small = torch.eye(U.shape[1], dtype=h.dtype, device=h.device) + V.T @ U
        # lu_factor_ex does not look at the result's status, which would wait for the device.
        lu, pivots, _ = torch.linalg.lu_factor_ex(small)
        b = v / d
        b = b - V @ torch.linalg.lu_solve(lu, pivots, (U.T @ b)[:, None], adjoint=True)[:, 0]
        flattened = (b - U @ torch.linalg.lu_solve(lu, pivots, (V.T @ b)[:, None])[:, 0]) / d
        new_d = d - diagonal_step(h, v, curved, flattened, given) * d
        if given.uniform("choose_u") < 0.5:
            k = step_size(a, b, V, given)
            U = U - k * (torch.outer(a, (a @ V) @ small) - torch.outer(b, (b @ V) @ small))
        else:
            k, ua, ub = step_size(a, b, U, given), U.T @ a, U.T @ b
            V = V - k * (torch.outer(a + V @ ua, ua) - torch.outer(b + V @ ub, ub))
        return {"U": U, "V": V, "d": new_d[:, None]}

    def apply(self, factors: Factors, m: torch.Tensor) -> torch.Tensor:
        """Q^T Q m."""
        U, V, d = factors["U"], factors["V"], factors["d"][:, 0]
        x = d * m
        x = x + U @ (V.T @ x)
        return d * (x + V @ (U.T @ x))


def diagonal_step(
    h: torch.Tensor, v: torch.Tensor, curved: torch.Tensor, flattened: torch.Tensor, given: Fit
) -> torch.Tensor:
    """The relative step of d."""
    gradient = curved * h - v * flattened
    if not given.second_order:
        return given.lr / gradient.abs().max().clamp(min=1e-25) * gradient
    sizes = (curved**2 + v**2).clamp(min=1e-25).rsqrt() * (h**2 + flattened**2).clamp(min=1e-25).rsqrt()
    return given.lr * sizes.min() * gradient


def step_size(a: torch.Tensor, b: torch.Tensor, W: torch.Tensor, given: Fit) -> torch.Tensor:
    """The step of one of U and V, W being the other one."""
    wa, wb = W @ (W.T @ a), W @ (W.T @ b)
    if given.second_order:
        norm = torch.linalg.vector_norm
        return given.lr / (norm(a) * norm(wa) + norm(b) * norm(wb)).clamp(min=1e-25)
    squared = (a @ a) * (wa @ wa) + (b @ b) * (wb @ wb) - 2 * (a @ b) * (wa @ wb)
    return given.lr / squared.abs().sqrt().clamp(min=1e-25)
