"""The frame of XMat, LRA and Affine in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import torch

from optbench.fields import hyper
from optbench.optimizers import psgd
from optbench.optimizers.psgd import torch_arrays
from optbench.optimizers.psgd.groups import Group, refitted
from optbench.optimizers.psgd.torch_base import Preconditioned, Work, descend
from optbench.optimizers.psgd.torch_base import precond_update_prob_schedule as precond_update_prob_schedule
from optbench.optimizers.psgd.torch_curvature import hessian_helper as hessian_helper
from optbench.rules.arguments import at, rate
from optbench.rules.torch_optimizer import C, Leaf, optimizer, value_of, wide
from optbench.rules.torch_shards import mapped, spread, whole

STEP = """
`step()` whitens; `step(hvp=, vector=, update_preconditioner=)` fits the preconditioner to a Hessian-vector
product, such as `optbench.optimizers.psgd.torch.hessian_helper` gives.
"""
WHOLE = """The factors are in the state of a group's first parameter.
"""
Curvature = dict[torch.Tensor, tuple[torch.Tensor, ...]]
"""The Hessian times a vector, and the vector, of each parameter."""


def group_class(declared: type[psgd.GroupOptimizer], group: type[Group]) -> Callable[[type[C]], type[C]]:
    """Give a class the matrix group, and the constructor with the arguments in the originals' order."""
    decorate = optimizer(
        declared,
        f"lr preconditioner_update_probability b1 nesterov weight_decay {group.own} precond_lr precond_init_scale "
        "update_global_norm_clip step_normalizer_order seed mu_dtype * noise upstream",
        lr=rate(declared),
        precond_lr=psgd.PRECOND_LR,
        seed=hyper(36, psgd.SEED),
        upstream=psgd.UPSTREAM,
        **psgd.SHARED,
    )

    def decorated(cls: Any) -> Any:
        cls.kind, cls.releases = group, declared.releases
        cls.__doc__ = f"{cls.__doc__}\n{STEP}{WHOLE if group.whole else ''}"
        return decorate(cls)

    return decorated


class Draws(NamedTuple):
    """What a fit of a group has beside the gradients."""

    vectors: list[Any]
    """The probe of each unit in whitening."""
    lr: float
    is_first: bool
    uniforms: list[dict[str, float]]
    """What each unit draws from [0, 1), by name."""


class GroupPreconditioner(Preconditioned):
    """The frame of XMat, LRA and Affine.

    Where a group sees all parameters as one vector, one without gradient counts as a zero gradient, and stays.
    """

    kind: ClassVar[type[Group]]
    of_units: ClassVar[tuple[str, ...]] = ("factors",)
    """The entries of the state that are a unit's, not a parameter's."""

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
        curvature = None if hvp is None or vector is None else self.beside(hvp, vector)
        for work in self.prepared(curvature is None, update_preconditioner):
            members = self.members(work.group, work.leaves)
            self.change(members, lambda x, param: whole(x))
            self.step_group(work, curvature)
            self.change(members, spread)
        return loss

    def change(
        self, members: list[torch.Tensor], how: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> None:
        """Gather the state of units, or shard it as their parameters are."""
        for param, state in zip(members, self.states(members), strict=False):
            for name in self.of_units:
                if name in state:
                    state[name] = mapped(lambda x, param=param: how(x, param), state[name])

    def members(self, group: dict[str, Any], leaves: list[Leaf]) -> list[torch.Tensor]:
        return group["params"] if self.kind.whole else [leaf.param for leaf in leaves]

    def states(self, members: list[torch.Tensor]) -> list[dict[str, Any]]:
        """Where the factors of each unit are."""
        return [self.state[param] for param in (members[:1] if self.kind.whole else members)]

    def drawn(self, group: dict[str, Any], leaves: list[Leaf], *how: Any) -> Draws | None:
        """Also makes the factors; `how`: whether to whiten, and `update_preconditioner`."""
        (whitens, update), kind = how, self.kind(torch_arrays, group)
        members, step, given = self.members(group, leaves), group["count"], self.names()
        states = self.states(members)
        if any("factors" not in state for state in states):
            for state, unit in zip(states, kind.units([*map(whole, members)]), strict=True):
                if "factors" not in state:
                    state["factors"] = kind.init(unit, self.noise)
                    state["scaled"] = torch.zeros((), dtype=torch.bool, device=unit.device)
        if not (update or (update is None and self.due(group))):
            return None
        names = [given[param] for param in members]
        suffixes = [""] if kind.whole else [f".{name}" for name in names]
        return Draws(
            kind.probe(self.noise, step, dict(zip(names, members, strict=True))) if whitens else [],
            at(group["precond_lr"], step + 1),
            step == 0,
            [
                {u: float(self.noise.uniform(u + suffix, step, torch.float32)) for u in kind.uniforms}
                for suffix in suffixes
            ],
        )

    def step_group(self, work: Work, curvature: Curvature | None) -> None:
        group, leaves, draws = work
        kind, options = self.kind(torch_arrays, group), SimpleNamespace(**group)
        members = self.members(group, leaves)
        states = self.states(members)

        def units_of(given: dict[torch.Tensor, torch.Tensor]) -> list[Any]:
            return kind.units([whole(given[p] if p in given else torch.zeros_like(p)) for p in members])

        if draws is not None:
            if curvature is None:
                hs, vs = units_of({leaf.param: leaf.grad for leaf in leaves}), draws.vectors
            else:
                hs, vs = (kind.units([whole(curvature[p][i]) for p in members]) for i in (0, 1))
            rows = zip(states, hs, vs, draws.uniforms, strict=True)
            units = [(own["factors"], own["scaled"], h, v, drawn.__getitem__) for own, h, v, drawn in rows]
            made = refitted(kind, options, units, draws.lr, curvature is None, draws.is_first)
            for state, (factors, scaled) in zip(states, made, strict=True):
                state |= {"factors": factors, "scaled": scaled}
        present = [leaf.param for leaf in leaves]
        directions = units_of(dict(zip(present, self.momenta(group, leaves), strict=True)))
        units = [kind.apply(state["factors"], m) for state, m in zip(states, directions, strict=True)]
        restored = dict(zip(members, kind.restore(units, members), strict=True))
        updates = clip_global([restored[p] for p in present], options.update_global_norm_clip)
        descend(group, present, updates)

    def due(self, group: dict[str, Any]) -> bool:
        probability, step = group["preconditioner_update_probability"], group["count"]
        forced = 1 if group["upstream"] == "0.1.0" else psgd.FORCED_FITS
        if probability == 1 or step < forced:
            return True
        return bool(self.noise.uniform("update_u", step, torch.float32) < probability)


def clip_global(updates: list[torch.Tensor], limit: float | None) -> list[torch.Tensor]:
    if limit is None:
        return updates
    wider = [u.to(wide(u.dtype)) for u in updates]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(w) for w in wider]))
    scale = torch.where(norm < limit, torch.ones_like(norm), limit / norm)
    return [(w * scale.to(w.dtype)).to(u.dtype) for w, u in zip(wider, updates, strict=True)]
