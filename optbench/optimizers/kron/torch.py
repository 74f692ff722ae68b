"""PSGD Kron as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.kron`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch

from optbench.fields import hyper
from optbench.optimizers import kron as declared
from optbench.optimizers.kron import RMS_CLIP, Shaping, along, factor_kinds, first_factors
from optbench.optimizers.psgd import BALANCE_PROBABILITY, SEED, SHARED
from optbench.optimizers.psgd.groups import is_alive
from optbench.optimizers.psgd.torch_base import Preconditioned, Work, descend
from optbench.optimizers.psgd.torch_base import precond_update_prob_schedule as precond_update_prob_schedule
from optbench.protocol import normals
from optbench.rules.arguments import at, rate
from optbench.rules.torch_optimizer import Leaf, optimizer, wide
from optbench.rules.torch_shards import spread, whole

Factors = list[torch.Tensor]


@optimizer(
    declared.Kron,
    f"lr b1 weight_decay {declared.FITTING} preconditioner_lr preconditioner_init_scale mu_dtype precond_dtype "
    "* scanned_layers noise seed upstream",
    lr=rate(declared.Kron),
    scanned_layers=hyper(False, "whether the first axis of every parameter of a group stacks layers"),
    seed=hyper(5318008, SEED),
    **SHARED,
    **declared.ALONE,
)
class Kron(Preconditioned):
    """PSGD Kron: whitening by a Kronecker-factored preconditioner fitted on the group of triangular matrices.

    The first axis of the parameters of a group with `scanned_layers=True` stacks layers. The update probability may be
    a schedule of the step from 1; None is `precond_update_prob_schedule()`.
    """

    first_count: ClassVar[int] = 1
    """The number of the first step, at which a schedule is read."""
    damping: ClassVar[float] = declared.DAMPING
    older: ClassVar[str] = "0.2.7"
    """The release that damps no gradient and bends the updates."""
    fit_rate: ClassVar[str] = "preconditioner_lr"
    first_scale: ClassVar[str] = "preconditioner_init_scale"
    releases: ClassVar[tuple[str, ...]] = declared.RELEASES

    def build(self, params: Any, **options: Any) -> None:
        super().build(params, **options, update_counter=0)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        for param in group["params"]:
            if group["scanned_layers"] and not param.ndim:
                raise ValueError(
                    f"{self.owner}: a group with scanned_layers=True holds a scalar, which has no axis of layers"
                )
            factor_kinds(tuple(param.shape)[group["scanned_layers"] :], Shaping.of(group))

    def ready(self, leaf: Leaf) -> None:
        super().ready(leaf)
        if "Q" not in leaf.state:
            leaf.state["Q"] = self.first(leaf.param, leaf.group)

    def drawn(self, group: dict[str, Any], leaves: list[Leaf], *how: Any) -> Any:
        """Whether to balance, and a probe for each leaf."""
        if not self.due(group):
            return None
        step = group["count"]
        balance = bool(self.noise.uniform("balance_u", step, torch.float32) < BALANCE_PROBABILITY)
        likes = {leaf.name: leaf.grad.to(wide(leaf.grad.dtype)) for leaf in leaves}
        return balance, list(normals(self.noise, "probe", step, likes).values())

    def advance(self, leaves: list[Work]) -> None:
        for work in leaves:
            self.step_group(work)

    def step_group(self, work: Work) -> None:
        descend(work.group, [leaf.param for leaf in work.leaves], self.updates(work))

    def updates(self, work: Work) -> list[torch.Tensor]:
        """What each parameter moves by before decay and learning rate; also fits its factors, where that is due."""
        group, leaves, draws = work
        limit = trust_region if group["upstream"] == self.older else clip_rms
        apply, updates = lifted(precondition, (0, 0), group), []
        for i, (leaf, direction) in enumerate(zip(leaves, self.momenta(group, leaves), strict=True)):
            # Of what is sharded one parameter at a time is whole.
            qs = [whole(q) for q in leaf.state["Q"]]
            m = whole(direction).reshape(self.shape(leaf.param, group))
            m = m.to(wide(m.dtype))
            if draws is not None:
                balance, probe = draws
                g, qs = self.fitted(leaf, qs, m, probe[i], balance)
                leaf.state["Q"] = [spread(q, leaf.param) for q in qs]
                m = self.preconditioned(leaf, m, g)
            update = limit(apply(qs, m)).reshape(leaf.param.shape).to(direction.dtype)
            updates.append(spread(update, leaf.param))
        return updates

    def shape(self, param: torch.Tensor, group: dict[str, Any]) -> tuple[int, ...]:
        """The shape in which a parameter is fitted."""
        return tuple(param.shape)

    def preconditioned(self, leaf: Leaf, m: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """What is preconditioned on a step that fitted the factors on g."""
        return m

    def first(self, param: torch.Tensor, group: dict[str, Any]) -> Factors:
        stacked, dtype = group["scanned_layers"], group["precond_dtype"] or wide(param.dtype)
        shape, scale = self.shape(param, group)[stacked:], group[self.first_scale]
        made = first_factors(torch, shape, Shaping.of(group), scale, dtype=dtype, device=param.device)
        return [q.expand(param.shape[0], *q.shape).clone() for q in made] if stacked else made

    def due(self, group: dict[str, Any]) -> bool:
        """Whether this step fits the preconditioner; counts towards the next one that does."""
        older = group["upstream"] == "0.2.7"
        probability = group["preconditioner_update_probability"]
        if probability is None:
            probability = precond_update_prob_schedule(flat_start=250 if older else 500)
        probability = at(probability, group["count"] + self.first_count)
        if older:
            drawn = self.noise.uniform("update_u", group["count"], torch.float32)
            return float(drawn) < float(np.float32(probability))
        group["update_counter"] += 1
        if group["update_counter"] < 1 / probability:
            return False
        group["update_counter"] = 0
        return True

    def fitted(
        self, leaf: Leaf, qs: Factors, m: torch.Tensor, v: torch.Tensor, balance: bool
    ) -> tuple[torch.Tensor, Factors]:
        """The gradient or momentum of a fit, and the factors after it; Python looks at no value of a parameter."""
        group = leaf.group
        on_momentum = group["momentum_into_precond_update"]
        g = m if on_momentum else whole(leaf.grad).reshape(m.shape).to(m.dtype)
        if balance and len(qs) > 1:
            qs = self.balanced(group, qs)
        lr = torch.full((), group[self.fit_rate], dtype=g.dtype, device=g.device)
        if group["upstream"] is None:
            # A leaf without gradient is fitted with a step of 0.
            lr = lr * is_alive(torch, g)
        if group["upstream"] != self.older:
            g = g + self.damping * g.abs().mean() * v
        return g, lifted(fit_factors, (0, 0, 0, None), group)(qs, g, v, lr)

    def balanced(self, group: dict[str, Any], qs: Factors) -> Factors:
        # psgd-jax takes the norms in float32 in every dtype.
        dtype = wide(qs[0].dtype) if group["upstream"] is None else torch.float32

        def even(qs: Factors) -> Factors:
            norms = torch.stack([q.abs().max().to(dtype) for q in qs])
            mean = norms.prod() ** (1 / len(qs))
            return [q * (mean / norm).to(q.dtype) for q, norm in zip(qs, norms, strict=True)]

        return lifted(even, (0,), group)(qs)


def lifted(function: Callable, in_dims: tuple[int | None, ...], group: dict[str, Any]) -> Callable:
    return torch.func.vmap(function, in_dims=in_dims) if group["scanned_layers"] else function


def times(q: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    if q.ndim < 2:
        return x * along(q, x.ndim, axis)
    if x.ndim == 2:
        return x @ q.T if axis else q @ x
    return contract(q, x, [1], [axis]).movedim(0, axis)


def divide(q: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    if q.ndim < 2:
        return x / along(q, x.ndim, axis)
    if x.ndim == 2 and axis:
        return torch.linalg.solve_triangular(q, x, upper=True, left=False)
    front = x.movedim(axis, 0)
    solved = torch.linalg.solve_triangular(q.T, front.reshape(len(front), -1), upper=False)
    return solved.reshape(front.shape).movedim(0, axis)


def gram(x: torch.Tensor, axis: int, diagonal: bool) -> torch.Tensor:
    others = [i for i in range(x.ndim) if i != axis]
    if diagonal:
        return (x * x).sum(others) if others else x * x
    if x.ndim == 2:
        return x.T @ x if axis else x @ x.T
    return contract(x, x, others, others)


def contract(x: torch.Tensor, y: torch.Tensor, axes: list[int], other_axes: list[int]) -> torch.Tensor:
    return torch.tensordot(x, y, dims=(axes, other_axes))  # pyright: ignore[reportArgumentType]


def fit_factors(qs: Factors, g: torch.Tensor, v: torch.Tensor, lr: torch.Tensor) -> Factors:
    a, b = g, v
    for axis, q in enumerate(qs):
        a, b = times(q.to(g.dtype), a, axis), divide(q.to(g.dtype), b, axis)
    return [fit_factor(q, a, b, axis, lr) for axis, q in enumerate(qs)]


def fit_factor(
    q: torch.Tensor, a: torch.Tensor, b: torch.Tensor, axis: int, lr: torch.Tensor
) -> torch.Tensor:
    """Q <- Q - lr tri(T1 - T2) Q / |T1 + T2|."""
    new, tiny = q.to(a.dtype), torch.finfo(a.dtype).tiny
    t1, t2 = gram(a, axis, q.ndim < 2), gram(b, axis, q.ndim < 2)
    if q.ndim < 2:
        new = new - lr * (t1 - t2) * new / ((t1 + t2).abs().max() + tiny)
    else:
        new = new - ((lr * (t1 - t2)).triu() / (norm_lower_bound(t1 + t2) + tiny)) @ new
    return new.to(q.dtype)


def norm_lower_bound(a: torch.Tensor) -> torch.Tensor:
    largest = a.abs().max()
    b = a / largest
    longest = (b * b).sum(0).argmax().reshape(1)
    x = b.index_select(1, longest).squeeze(1) @ b
    bound = largest * torch.linalg.vector_norm(b @ (x / torch.linalg.vector_norm(x)))
    return torch.where(largest > 0, bound, largest)


def precondition(qs: Factors, g: torch.Tensor) -> torch.Tensor:
    for axis, q in enumerate(qs):
        q = q.to(g.dtype)
        g = times(q * q, g, axis) if q.ndim < 2 else times(q.T, times(q, g, axis), axis)
    return g


def clip_rms(u: torch.Tensor) -> torch.Tensor:
    return u / (((u * u).mean().sqrt()) / RMS_CLIP).clamp(min=1)


def trust_region(u: torch.Tensor) -> torch.Tensor:
    y = u / 1.5
    return (1.5 * (0.1 * y.sign() * (y.abs() + 1).log() + 0.9 * y.tanh())).clamp(-2, 2)
