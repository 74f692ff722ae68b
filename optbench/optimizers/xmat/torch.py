"""PSGD XMat as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.xmat`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from optbench.optimizers.psgd.torch import Factors, Fit, WholeGroup, group_class
from optbench.optimizers.xmat import XMat as Declared


class XMat(WholeGroup):
    """PSGD XMat: Q = diag(a) + antidiag(b) on each param group as one vector.

    `step()` whitens; `step(hvp=, vector=, update_preconditioner=)` fits the preconditioner to a
    Hessian-vector product, such as `optbench.optimizers.psgd.torch.hessian_helper` gives. The factors are in
    the state of a group's first parameter.

    Raises:
        ValueError: a hyperparameter is out of its range, a clip of 0 included.
        RuntimeError: a gradient is sparse.
    """

    owner: ClassVar[str] = "xmat"
    releases: ClassVar[tuple[str, ...]] = Declared.releases

    @group_class(Declared)
    def __init__(self, params: Any, **options: Any):
        super().__init__(params, **options)

    def first(self, unit: torch.Tensor, group: dict[str, Any]) -> Factors:
        """The identity."""
        return {"a": torch.ones_like(unit), "b": torch.zeros_like(unit)}

    def scale(self, factors: Factors, scale: torch.Tensor) -> Factors:
        """Q times a number, before the first fit: b is still 0."""
        return {"a": scale * factors["a"], "b": factors["b"]}

    def fit(self, factors: Factors, given: Fit) -> Factors:
        """One relative gradient step of a and b."""
        a, b = factors["a"], factors["b"]
        h, v = given.h, given.v
        assert v is not None
        fa, fb = a.flip(0), b.flip(0)
        w = a * h + b * h.flip(0)
        z = (fa * v - fb * v.flip(0)) / (a * fa - b * fb)
        size_a = w * w - z * z
        size_b = w * w.flip(0) - z * z.flip(0)
        if h.numel() % 2:
            # The middle entry is on both diagonals; a has it.
            size_b[h.numel() // 2] = 0
        bound = (
            (w * w + z * z).max()
            if given.second_order
            else torch.maximum(size_a.abs().max(), size_b.abs().max())
        )
        k = given.lr / bound.clamp(min=1e-25)
        return {"a": a - k * (size_a * a + size_b * fb), "b": b - k * (size_a * b + size_b * fa)}

    def apply(self, factors: Factors, m: torch.Tensor) -> torch.Tensor:
        """Q^T Q m."""
        a, b = factors["a"], factors["b"]
        cross = a * b
        return (a * a + (b * b).flip(0)) * m + (cross + cross.flip(0)) * m.flip(0)
