"""The frame of XMat, LRA and Affine in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from optbench.fields import hyper
from optbench.optimizers.psgd import FORCED_FITS, PRECOND_LR, SEED, SHARED, UPSTREAM, GroupOptimizer
from optbench.optimizers.psgd.torch_base import Preconditioned, descend, is_alive
from optbench.optimizers.psgd.torch_base import precond_update_prob_schedule as precond_update_prob_schedule
from optbench.optimizers.psgd.torch_curvature import hessian_helper as hessian_helper
from optbench.protocol import normals
from optbench.rules.arguments import Decorator, at, rate, takes
from optbench.rules.torch_optimizer import value_of

Factors = dict[str, torch.Tensor]


class Fit(NamedTuple):
    """What one fit of one unit's factors is given; see `psgd.jax.Fit`."""

    h: torch.Tensor
    v: torch.Tensor | None
    lr: torch.Tensor
    second_order: bool
    uniform: Callable[[str], float]


def group_class(declared: type[GroupOptimizer], own: str = "") -> Decorator:
    """What the classes of XMat, LRA and Affine take, in the originals' order; `own` is what one takes alone."""
    return takes(
        declared,
        f"lr preconditioner_update_probability b1 nesterov weight_decay {own} precond_lr precond_init_scale "
        "update_global_norm_clip step_normalizer_order seed mu_dtype * noise upstream",
        lr=rate(declared),
        precond_lr=PRECOND_LR,
        seed=hyper(36, SEED),
        upstream=UPSTREAM,
        **SHARED,
    )


class GroupPreconditioner(Preconditioned):
    """The frame of XMat, LRA and Affine; see `psgd.jax.Group` for what a unit is."""

    def holders(self, params: list[torch.Tensor]) -> list[torch.Tensor]:
        """The parameter whose state holds each unit's factors."""
        raise NotImplementedError

    def members(self, group: dict[str, Any]) -> list[torch.Tensor]:
        """The parameters that the units are made of at this step."""
        raise NotImplementedError

    def units(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The units of a list of tensors, one for each member."""
        raise NotImplementedError

    def restore(self, units: list[torch.Tensor], like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The list of tensors back from its units."""
        raise NotImplementedError

    def first(self, unit: torch.Tensor, group: dict[str, Any]) -> Factors:
        """The identity, or near it."""
        raise NotImplementedError

    def scale(self, factors: Factors, scale: torch.Tensor) -> Factors:
        """Q times a number."""
        raise NotImplementedError

    def probe(self, group: dict[str, Any], members: list[torch.Tensor]) -> list[torch.Tensor | None]:
        """What whitening draws for each unit."""
        raise NotImplementedError

    def suffixes(self, group: dict[str, Any], members: list[torch.Tensor]) -> list[str]:
        """What the name of a unit's own draws ends in."""
        raise NotImplementedError

    def fit(self, factors: Factors, given: Fit) -> Factors:
        """One step of the factors, all from the old ones."""
        raise NotImplementedError

    def apply(self, factors: Factors, m: torch.Tensor) -> torch.Tensor:
        """Q^T Q m."""
        raise NotImplementedError

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
        curvature = None
        if hvp is not None and vector is not None:
            curvature = dict(zip(every, zip(hvp, vector, strict=True), strict=True))
        for group in self.param_groups:
            self.step_group(group, curvature, update_preconditioner)
        return loss

    def step_group(
        self,
        group: dict[str, Any],
        curvature: dict[torch.Tensor, tuple[torch.Tensor, torch.Tensor]] | None,
        update_preconditioner: bool | None,
    ) -> None:
        """One step of one group."""
        present = self.present(group)
        if not present:
            return
        members = self.members(group)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in members]
        holders = self.holders(members)
        for holder, unit in zip(holders, self.units(grads), strict=True):
            state = self.state[holder]
            if "factors" not in state:
                state["factors"] = self.first(unit, group)
                state["scaled"] = torch.zeros((), dtype=torch.bool, device=unit.device)
        if update_preconditioner or (update_preconditioner is None and self.due(group)):
            self.fit_group(group, members, grads, curvature)
        moved = dict(zip(present, self.momenta(group, present), strict=True))
        directions = self.units([moved.get(p, torch.zeros_like(p)) for p in members])
        factors = [self.state[holder]["factors"] for holder in holders]
        units = [self.apply(q, m) for q, m in zip(factors, directions, strict=True)]
        restored = dict(zip(members, self.restore(units, members), strict=True))
        updates = clip_global([restored[p] for p in present], group["update_global_norm_clip"])
        descend(group, present, updates)
        group["count"] += 1

    def due(self, group: dict[str, Any]) -> bool:
        """Whether whitening fits at this step."""
        probability, step = group["preconditioner_update_probability"], group["count"]
        forced = 1 if group["upstream"] == "0.1.0" else FORCED_FITS
        if probability == 1 or step < forced:
            return True
        return bool(self.noise.uniform("update_u", step, torch.float32) < probability)

    def fit_group(
        self,
        group: dict[str, Any],
        members: list[torch.Tensor],
        grads: list[torch.Tensor],
        curvature: dict[torch.Tensor, tuple[torch.Tensor, torch.Tensor]] | None,
    ) -> None:
        """Fit all units of a group; no value of a tensor is looked at from Python."""
        step, upstream = group["count"], group["upstream"] is not None
        if curvature is None:
            hs, vs = self.units(grads), self.probe(group, members)
        else:
            hs = self.units([curvature[p][0] for p in members])
            vs = self.units([curvature[p][1] for p in members])
        lr = at(group["precond_lr"], step + 1)
        suffixes = self.suffixes(group, members)
        for holder, h, v, suffix in zip(self.holders(members), hs, vs, suffixes, strict=True):
            state, one = self.state[holder], torch.ones((), dtype=h.dtype, device=h.device)
            alive = is_alive(h) | upstream
            due = alive & (step == 0) if upstream else alive & ~state["scaled"]
            scale = first_scale(h, v if curvature is not None else None, group["precond_init_scale"])
            factors = self.scale(state["factors"], torch.where(due, scale, one))

            def uniform(name: str, suffix: str = suffix) -> float:
                return float(self.noise.uniform(name + suffix, step, torch.float32))

            second_order = group["step_normalizer_order"] == "2nd"
            # A dead unit is fitted with a step of 0.
            given = Fit(h, v, torch.where(alive, lr * one, 0 * one), second_order, uniform)
            state["factors"] = self.fit(factors, given)
            state["scaled"] = state["scaled"] | due


def first_scale(h: torch.Tensor, v: torch.Tensor | None, given: float | None) -> Any:
    """The scale that makes the first direction Q^T Q h about as long as it should be."""
    if given is not None:
        return given
    return ((h.numel() if v is None else (v * v).sum()) / (h * h).sum()) ** 0.25


def clip_global(updates: list[torch.Tensor], limit: float | None) -> list[torch.Tensor]:
    """Scale a group's updates so that their l2 norm is at most `limit`."""
    if limit is None:
        return updates
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(u) for u in updates]))
    scale = torch.where(norm < limit, torch.ones_like(norm), limit / norm)
    return [u * scale.to(u.dtype) for u in updates]


class WholeGroup(GroupPreconditioner):
    """A preconditioner of all parameters of a group as one vector, in float32 at least.

    A parameter without gradient counts as a zero gradient in the vector, and does not move.
    """

    def members(self, group: dict[str, Any]) -> list[torch.Tensor]:
        """All of the group."""
        return group["params"]

    def holders(self, params: list[torch.Tensor]) -> list[torch.Tensor]:
        """The group's first parameter."""
        return params[:1]

    def units(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """One vector."""
        dtype = torch.float32
        for tensor in tensors:
            dtype = torch.promote_types(dtype, tensor.dtype)
        return [torch.cat([tensor.reshape(-1).to(dtype) for tensor in tensors])]

    def restore(self, units: list[torch.Tensor], like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors back from the vector."""
        parts = units[0].split([x.numel() for x in like])
        return [part.reshape(x.shape).to(x.dtype) for part, x in zip(parts, like, strict=True)]

    def probe(self, group: dict[str, Any], members: list[torch.Tensor]) -> list[torch.Tensor | None]:
        """Standard normal draws, `probe.<leaf>` for each parameter."""
        names, step = self.names(group), group["count"]
        drawn = normals(self.noise, "probe", step, {names[p]: p for p in members})
        return [*self.units(list(drawn.values()))]

    def suffixes(self, group: dict[str, Any], members: list[torch.Tensor]) -> list[str]:
        """Draws are the group's, not a parameter's."""
        return [""]
