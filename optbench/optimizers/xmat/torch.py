"""PSGD XMat as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.xmat`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from optbench.optimizers.psgd.torch import Factors, Fit, WholeGroup
from optbench.protocol import Noise


class XMat(WholeGroup):
    """PSGD XMat: Q = diag(a) + antidiag(b) on each param group as one vector.

    `step()` whitens; `step(hvp=, vector=, update_preconditioner=)` fits the preconditioner to a
    Hessian-vector product, such as `optbench.optimizers.psgd.torch.hessian_helper` gives. The factors are in
    the state of a group's first parameter.

    Args:
        params: parameters, pairs (name, parameter), or dicts of param groups.
        lr: learning rate.
        preconditioner_update_probability: in whitening, the probability of a fit; steps 1 and 2 always fit.
        b1: decay of the momentum; 0 keeps no momentum.
        nesterov: look ahead along the momentum.
        weight_decay: decoupled decay.
        precond_lr: step size of the fit, or a schedule of the step from 1.
        precond_init_scale: scale of the first Q; None takes it from the first gradient that is not zero.
        update_global_norm_clip: largest l2 norm of a group's whole update before decay and learning rate.
        step_normalizer_order: '2nd' or '1st', what the fit's step is divided by.
        seed: seed of the default noise; give two optimizers different ones.
        mu_dtype: dtype in which the momentum is kept; None is the parameter's.
        noise: where draws come from; None draws from `seed`.
        upstream: True or a release of psgd-jax ('0.2.9', '0.1.0') brings its faults back: an all-zero first
            gradient makes the state non-finite for ever, and a first Hessian step without a fit loses the
            first scale.

    Raises:
        ValueError: a hyperparameter is out of its range, a clip of 0 included.
        RuntimeError: a gradient is sparse.
    """

    owner: ClassVar[str] = "xmat"
    releases: ClassVar[tuple[str, ...]] = ("0.2.9", "0.1.0")

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        preconditioner_update_probability: float = 1.0,
        b1: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        precond_lr: float | Callable[[int], float] = 0.1,
        precond_init_scale: float | None = None,
        update_global_norm_clip: float | None = None,
        step_normalizer_order: str = "2nd",
        seed: int = 36,
        mu_dtype: torch.dtype | None = None,
        *,
        noise: Noise | None = None,
        upstream: bool | str | None = None,
    ):
        defaults = {
            "lr": lr,
            "preconditioner_update_probability": preconditioner_update_probability,
            "b1": b1,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "precond_lr": precond_lr,
            "precond_init_scale": precond_init_scale,
            "update_global_norm_clip": update_global_norm_clip,
            "step_normalizer_order": step_normalizer_order,
            "mu_dtype": mu_dtype,
            "upstream": upstream,
        }
        super().__init__(params, defaults, noise, seed)

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
