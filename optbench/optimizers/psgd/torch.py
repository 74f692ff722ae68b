"""The frame of XMat, LRA and Affine in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch

from optbench.fields import hyper
from optbench.optimizers.psgd import (
    FORCED_FITS,
    PRECOND_LR,
    SEED,
    SHARED,
    UPSTREAM,
    GroupOptimizer,
    torch_arrays,
)
from optbench.optimizers.psgd.groups import Fit, Group, first_scale
from optbench.optimizers.psgd.torch_base import Preconditioned, descend, is_alive
from optbench.optimizers.psgd.torch_base import precond_update_prob_schedule as precond_update_prob_schedule
from optbench.optimizers.psgd.torch_curvature import hessian_helper as hessian_helper
from optbench.rules.arguments import at, rate
from optbench.rules.torch_optimizer import C, optimizer, value_of, wide

STEP = """
`step()` whitens; `step(hvp=, vector=, update_preconditioner=)` fits the preconditioner to a Hessian-vector
product, such as `optbench.optimizers.psgd.torch.hessian_helper` gives.
"""
WHOLE = """The factors are in the state of a group's first parameter.
"""
Curvature = dict[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]
"""The Hessian times a vector, and the vector, of each parameter."""


def group_class(declared: type[GroupOptimizer], group: type[Group]) -> Callable[[type[C]], type[C]]:
    """Give a class the matrix group, and the constructor with the arguments in the originals' order."""
    decorate = optimizer(
        declared,
        f"lr preconditioner_update_probability b1 nesterov weight_decay {group.own} precond_lr precond_init_scale "
        "update_global_norm_clip step_normalizer_order seed mu_dtype * noise upstream",
        lr=rate(declared),
        precond_lr=PRECOND_LR,
        seed=hyper(36, SEED),
        upstream=UPSTREAM,
        **SHARED,
    )

    def decorated(cls: Any) -> Any:
        cls.kind, cls.releases = group, declared.releases
        cls.__doc__ = f"{cls.__doc__}\n{STEP}{WHOLE if group.whole else ''}"
        return decorate(cls)

    return decorated


class GroupPreconditioner(Preconditioned):
    """The frame of XMat, LRA and Affine.

    Where a group sees all parameters as one vector, one without gradient counts as a zero gradient, and stays.
    """

    kind: ClassVar[type[Group]]

    @torch.no_grad()
    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        hvp: Sequence[torch.Tensor] | None = None,
        vector: Sequence[torch.Tensor] | None = None,
        update_preconditioner: bool | None = None,
    ) -> Any:
        """One step: whitening, or with `update_preconditioner` given, Hessian mode.

        Args:
            closure: evaluates the loss again and returns it.
            hvp: the Hessian times `vector`, one tensor for each parameter in the groups' order.
            vector: standard normal draws, likewise.
            update_preconditioner: whether to fit; `hvp` and `vector` may be None where it is False.
        """
        if update_preconditioner is None and (hvp is not None or vector is not None):
            raise ValueError(f"{self.owner}: step with hvp or vector also needs update_preconditioner")
        if update_preconditioner and (hvp is None or vector is None):
            raise ValueError(f"{self.owner}: step with update_preconditioner also needs hvp and vector")
        loss = value_of(closure)
        every = [param for group in self.param_groups for param in group["params"]]
        curvature: Curvature | None = None
        if hvp is not None and vector is not None:
            curvature = dict(zip(every, zip(hvp, vector, strict=True), strict=True))
        for group in self.param_groups:
            self.step_group(group, curvature, update_preconditioner)
        return loss

    def step_group(
        self, group: dict[str, Any], curvature: Curvature | None, update_preconditioner: bool | None
    ) -> None:
        present, kind = self.present(group), self.kind(torch_arrays, group)
        if not present:
            return
        members = group["params"] if kind.whole else present
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in members]
        states = [self.state[param] for param in (members[:1] if kind.whole else members)]
        for state, unit in zip(states, kind.units(grads), strict=True):
            if "factors" not in state:
                state["factors"] = kind.init(unit, self.noise)
                state["scaled"] = torch.zeros((), dtype=torch.bool, device=unit.device)
        if update_preconditioner or (update_preconditioner is None and self.due(group)):
            self.fit_group(group, kind, states, members, grads, curvature)
        moved = dict(zip(present, self.momenta(group, present), strict=True))
        directions = kind.units([moved.get(p, torch.zeros_like(p)) for p in members])
        units = [kind.apply(state["factors"], m) for state, m in zip(states, directions, strict=True)]
        restored = dict(zip(members, kind.restore(units, members), strict=True))
        updates = clip_global([restored[p] for p in present], group["update_global_norm_clip"])
        descend(group, present, updates)
        group["count"] += 1

    def due(self, group: dict[str, Any]) -> bool:
        probability, step = group["preconditioner_update_probability"], group["count"]
        forced = 1 if group["upstream"] == "0.1.0" else FORCED_FITS
        if probability == 1 or step < forced:
            return True
        return bool(self.noise.uniform("update_u", step, torch.float32) < probability)

    def fit_group(
        self,
        group: dict[str, Any],
        kind: Group,
        states: list[dict[str, Any]],
        members: list[torch.Tensor],
        grads: list[torch.Tensor],
        curvature: Curvature | None,
    ) -> None:
        """Fit all units of a group; no value of a tensor is read from Python."""
        step, upstream, given = group["count"], group["upstream"] is not None, self.names()
        names = [given[p] for p in members]
        if curvature is None:
            hs = kind.units(grads)
            vs = kind.probe(self.noise, step, dict(zip(names, members, strict=True)))
        else:
            hs, vs = (kind.units([curvature[p][i] for p in members]) for i in (0, 1))
        lr, second_order = at(group["precond_lr"], step + 1), group["step_normalizer_order"] == "2nd"
        suffixes = [""] if kind.whole else [f".{name}" for name in names]
        for state, h, v, suffix in zip(states, hs, vs, suffixes, strict=True):
            one = torch.ones((), dtype=h.dtype, device=h.device)
            alive = is_alive(h) | upstream
            due = alive & (step == 0) if upstream else alive & ~state["scaled"]
            scale = first_scale(h, v if curvature is not None else None, group["precond_init_scale"])
            factors = kind.scaled(state["factors"], torch.where(due, scale, one))

            def uniform(name: str, suffix: str = suffix) -> float:
                return float(self.noise.uniform(name + suffix, step, torch.float32))

            # A dead unit is fitted with a step of 0.
            size = torch.where(alive, lr * one, 0 * one)
            state["factors"] = kind.fit(factors, Fit(h, v, size, second_order, uniform))
            state["scaled"] = state["scaled"] | due


def clip_global(updates: list[torch.Tensor], limit: float | None) -> list[torch.Tensor]:
    if limit is None:
        return updates
    wider = [u.to(wide(u.dtype)) for u in updates]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(w) for w in wider]))
    scale = torch.where(norm < limit, torch.ones_like(norm), limit / norm)
    return [(w * scale.to(w.dtype)).to(u.dtype) for w, u in zip(wider, updates, strict=True)]
