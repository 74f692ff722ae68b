"""PSGD of psgd_torch as torch.optim optimizers; the mathematics is on the pages of `optbench.optimizers.psgd_dq`."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import torch

from optbench.fields import hyper
from optbench.optimizers import psgd_dq
from optbench.optimizers.adapter import option_names
from optbench.optimizers.psgd import SEED, SHARED, torch_arrays
from optbench.optimizers.psgd.torch import Curvature, GroupPreconditioner
from optbench.optimizers.psgd.torch_base import Work, descend
from optbench.optimizers.psgd_dq.frame import Frame, Held
from optbench.optimizers.psgd_dq.groups import Dense, Kronecker, TrackedGroup, TrackedLowRank
from optbench.rules.arguments import rate
from optbench.rules.torch_optimizer import C, CheckedOptimizer, Leaf, optimizer
from optbench.rules.torch_shards import whole

STEP = "In hessian mode `step` takes what `optbench.optimizers.psgd.torch.hessian_helper` gives."


def tracked(declared: type[psgd_dq.Tracked], group: type[TrackedGroup]) -> Callable[[type[C]], type[C]]:
    """Give a class its group, and a constructor that takes the fields of `declared` by name."""
    decorate = optimizer(
        declared,
        f"lr * {' '.join(option_names(declared))} seed noise",
        lr=rate(declared),
        seed=hyper(0, SEED),
        noise=SHARED["noise"],
    )

    def decorated(cls: Any) -> Any:
        cls.kind, cls.mode = group, declared.mode
        cls.__doc__ = f"{cls.__doc__}\n\n{STEP}\n"
        return decorate(cls)

    return decorated


class TrackedPreconditioner(GroupPreconditioner):
    """The frame of KronDQ, LraDQ and DenseNewton."""

    mode: ClassVar[str]
    of_units: ClassVar[tuple[str, ...]] = ("factors", "mu")

    def check_group(self, group: dict[str, Any]) -> None:
        CheckedOptimizer.check_group(self, group)
        group.setdefault("mode", self.mode)
        psgd_dq.check_momentum(self.owner, group)

    def ready(self, leaf: Leaf) -> None:
        """Nothing: a momentum is that of a unit, and a group counts its steps."""

    def drawn(self, group: dict[str, Any], leaves: list[Leaf], *how: Any) -> Any:
        """Whether to fit in Hessian mode; a step draws what it needs."""
        return how[1]

    def step_group(self, work: Work, curvature: Curvature | None) -> None:
        group, leaves, update_preconditioner = work
        kind: Any = self.kind(torch_arrays, group)
        present, given = [leaf.param for leaf in leaves], self.names()
        members = self.members(group, leaves)
        grads = [whole(torch.zeros_like(p) if p.grad is None else p.grad) for p in members]
        states = self.states(members)
        frame = Frame(kind, SimpleNamespace(**group), self.noise)
        for state, unit in zip(states, kind.units(grads), strict=True):
            if "factors" not in state:
                state |= {"fresh": True, "factors": frame.first(unit)}
            if group["momentum"] and "mu" not in state:
                state["mu"] = torch.zeros_like(unit)
        mu = [state["mu"] for state in states] if group["momentum"] else None
        fresh, factors = ([state[name] for state in states] for name in ("fresh", "factors"))
        # A group that is one vector draws by its first parameter's place, the first as in JAX.
        place = given[members[0]] if group is not self.param_groups[0] else ""
        names = [f"all{place}"] if kind.whole else [given[p] for p in members]
        products = None
        if group["mode"] == "hessian":
            if update_preconditioner is None:
                raise ValueError(f"{self.owner}: hessian mode needs update_preconditioner in step")
            pairs = [curvature[p] for p in members] if curvature else []
            products = [whole(h) for h, _ in pairs], [whole(v) for _, v in pairs], update_preconditioner
        updates, held = frame.step(Held(group["count"] - 1, mu, fresh, factors), names, grads, products)
        for i, state in enumerate(states):
            state |= {"fresh": held.fresh[i], "factors": held.factors[i]}
            state |= {} if held.mu is None else {"mu": held.mu[i]}
        done = dict(zip(members, updates, strict=True))
        descend(group, present, [done[p] for p in present])


@tracked(psgd_dq.KronDQ, Kronecker)
class KronDQ(TrackedPreconditioner):
    """PSGD Kron as in psgd_torch: a factor for each axis of each parameter, in a geometry dQ."""


@tracked(psgd_dq.LraDQ, TrackedLowRank)
class LraDQ(TrackedPreconditioner):
    """PSGD LRA as in psgd_torch: Q = (I + U V^T) diag(d) on each param group as one vector."""


@tracked(psgd_dq.DenseNewton, Dense)
class DenseNewton(TrackedPreconditioner):
    """PSGD as in psgd_torch with one matrix for each param group as one vector, in a geometry dQ."""
