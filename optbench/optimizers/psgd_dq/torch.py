"""PSGD of psgd_torch as torch.optim optimizers; the mathematics is on the pages of `optbench.optimizers.psgd_dq`."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import torch

from optbench.fields import hyper
from optbench.optimizers import psgd_dq
from optbench.optimizers.adapter import option_names
from optbench.optimizers.psgd import SEED, SHARED, torch_arrays
from optbench.optimizers.psgd.torch import Curvature, GroupPreconditioner
from optbench.optimizers.psgd.torch_base import Work, descend
from optbench.optimizers.psgd_dq.frame import Draws, Frame, Held
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


class Prepared(NamedTuple):
    """What a group's step is given, made where torch.compile does not look."""

    frame: Frame
    names: list[str]
    """The units'."""
    step: torch.Tensor
    """From 0; a number would be a graph each time."""
    due: bool
    """Whether to fit."""


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
        """Also makes the factors and momenta; the last of `how` is `update_preconditioner`."""
        due, step, members, given = how[-1], group["count"], self.members(group, leaves), self.names()
        kind: Any = self.kind(torch_arrays, group)
        frame, states = Frame(kind, SimpleNamespace(**group), self.noise), self.states(members)
        # A group that is one vector draws by its first parameter's place, the first as in JAX.
        place = given[members[0]] if group is not self.param_groups[0] else ""
        names = [f"all{place}"] if kind.whole else [given[p] for p in members]
        if group["mode"] == "whitening":
            due = frame.due(step)
        elif due is None:
            raise ValueError(f"{self.owner}: hessian mode needs update_preconditioner in step")
        wanted = {"factors", "mu"} if group["momentum"] else {"factors"}
        if due or any(wanted - state.keys() for state in states):
            # Units without their numbers, which other processes may hold.
            units = kind.units([torch.zeros(p.shape, dtype=p.dtype, device=p.device) for p in members])
            for state, unit in zip(states, units, strict=True):
                if "factors" not in state:
                    state |= {"fresh": True, "factors": frame.first(unit)}
                if group["momentum"] and "mu" not in state:
                    state["mu"] = torch.zeros_like(unit)
            if due:
                normals, chosen = frame.drawn(names, units, step)
                chosen = {name: bool(each) for name, each in chosen.items()}
                frame = frame._replace(draws=Draws(normals, chosen))
        return Prepared(frame, names, torch.tensor(step), bool(due))

    def step_group(self, work: Work, curvature: Curvature | None) -> None:
        group, leaves, (frame, names, step, due) = work
        members = self.members(group, leaves)
        # Not `p.grad`: torch.compile would make a graph for each gradient that it reads there.
        given = {leaf.param: leaf.grad for leaf in leaves}
        grads = [whole(given[p] if p in given else torch.zeros_like(p)) for p in members]
        states = self.states(members)
        mu = [state["mu"] for state in states] if group["momentum"] else None
        fresh, factors = ([state[name] for state in states] for name in ("fresh", "factors"))
        products = None
        if group["mode"] == "hessian":
            pairs = [curvature[p] for p in members] if curvature else []
            products = [whole(h) for h, _ in pairs], [whole(v) for _, v in pairs]
        updates, held = frame.step(Held(step, mu, fresh, factors), names, grads, due, products)
        for i, state in enumerate(states):
            state |= {"fresh": held.fresh[i], "factors": held.factors[i]}
            state |= {} if held.mu is None else {"mu": held.mu[i]}
        done = dict(zip(members, updates, strict=True))
        descend(group, [*given], [done[p] for p in given])


@tracked(psgd_dq.KronDQ, Kronecker)
class KronDQ(TrackedPreconditioner):
    """PSGD Kron as in psgd_torch: a factor for each axis of each parameter, in a geometry dQ."""


@tracked(psgd_dq.LraDQ, TrackedLowRank)
class LraDQ(TrackedPreconditioner):
    """PSGD LRA as in psgd_torch: Q = (I + U V^T) diag(d) on each param group as one vector."""


@tracked(psgd_dq.DenseNewton, Dense)
class DenseNewton(TrackedPreconditioner):
    """PSGD as in psgd_torch with one matrix for each param group as one vector, in a geometry dQ."""
