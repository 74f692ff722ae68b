"""Hessian mode in PyTorch: making the product, and the optimizer as a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from optbench.protocol import Noise, Setting, normals
from optbench.ranges import require
from optbench.rules.torch import CurvatureRule, SeedNoise


def hessian_helper(
    loss_fn: Callable[[], Any],
    params: Iterable[torch.Tensor],
    train_step: int = 0,
    has_aux: bool = False,
    preconditioner_update_probability: float = 1.0,
    *,
    noise: Noise | None = None,
    seed: int = 0,
) -> tuple[Any, list[torch.Tensor], list[torch.Tensor] | None, list[torch.Tensor] | None, bool]:
    """Loss, gradients, and on some steps a Hessian-vector product, for `step` of XMat, LRA and Affine.

    Args:
        loss_fn: returns the loss at the live parameters, or (loss, aux) with `has_aux`.
        params: the parameters in the optimizer's order.
        train_step: the number of this step; below 2 the product is always made.
        has_aux: whether `loss_fn` returns something beside the loss.
        preconditioner_update_probability: how often the product is made on later steps.
        noise: where draws come from, as `probe.<place>` and `update_u`; None draws from `seed`.
        seed: seed of the default noise.

    Returns:
        What `loss_fn` returned, the gradients (also written to `.grad`), the product and its vector (None on
        steps without), and whether to update the preconditioner. A parameter that the loss does not see gets
        zeros.
    """
    require("hessian_helper", "(0, 1]", preconditioner_update_probability=preconditioner_update_probability)
    source: Noise = SeedNoise(seed) if noise is None else noise
    listed = list(params)
    drawn = source.uniform("update_u", train_step, torch.float32)
    due = train_step < 2 or bool(drawn < preconditioner_update_probability)
    with torch.enable_grad():
        out = loss_fn()
        loss = out[0] if has_aux else out
        grads = torch.autograd.grad(loss, listed, create_graph=due, materialize_grads=True)
        hvp = vector = None
        if due:
            places = {str(i): p.detach() for i, p in enumerate(listed)}
            vector = list(normals(source, "probe", train_step, places).values())
            bent = [(g, v) for g, v in zip(grads, vector, strict=True) if g.requires_grad]
            hvp = [torch.zeros_like(p) for p in listed]
            if bent:
                outer, along = zip(*bent, strict=True)
                hvp = [*torch.autograd.grad(outer, listed, along, allow_unused=True, materialize_grads=True)]
    detached = [g.detach() for g in grads]
    for param, grad in zip(listed, detached, strict=True):
        param.grad = grad
    return out, detached, hvp, vector, due


def hessian_rule(build: Callable[..., Any], setting: Setting, probability: float) -> CurvatureRule:
    def due(t: int) -> bool:
        if t == 0 or probability == 1:
            return True
        return bool(setting.noise.uniform("update_u", t, torch.float32) < probability)

    return CurvatureRule(
        build, setting.factor, due, lambda t, params: normals(setting.noise, "probe", t, params)
    )
