"""PSGD Affine as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.affine`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from optbench.optimizers.affine import Affine as Declared
from optbench.optimizers.affine import Sides, matricized
from optbench.optimizers.kron.torch import divide, gram, norm_lower_bound, precondition, times
from optbench.optimizers.psgd import BALANCE_PROBABILITY
from optbench.optimizers.psgd.torch import Factors, Fit, GroupPreconditioner, group_class
from optbench.protocol import normals
from optbench.rules.torch_optimizer import wide


class Affine(GroupPreconditioner):
    """PSGD Affine: each parameter as a matrix, with a triangular or diagonal factor on either side.

    `step()` whitens; `step(hvp=, vector=, update_preconditioner=)` fits the preconditioner to a
    Hessian-vector product, such as `optbench.optimizers.psgd.torch.hessian_helper` gives.

    Raises:
        ValueError: a hyperparameter is out of its range, a clip of 0 included.
        RuntimeError: a gradient is sparse.
    """

    owner: ClassVar[str] = "affine"
    releases: ClassVar[tuple[str, ...]] = Declared.releases

    @group_class(Declared, " ".join(Sides._fields))
    def __init__(self, params: Any, **options: Any):
        super().__init__(params, **options)

    def members(self, group: dict[str, Any]) -> list[torch.Tensor]:
        """Those that have a gradient: each stands for itself."""
        return self.present(group)

    def holders(self, params: list[torch.Tensor]) -> list[torch.Tensor]:
        """Each parameter holds its own factors."""
        return params

    def units(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Each tensor as a matrix, in float32 at least."""
        return [matrix(tensor) for tensor in tensors]

    def restore(self, units: list[torch.Tensor], like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors back from their matrices."""
        return [tensor_of(unit, each) for unit, each in zip(units, like, strict=True)]

    def first(self, unit: torch.Tensor, group: dict[str, Any]) -> Factors:
        """Identities."""
        m, n = unit.shape
        sides = Sides.of(group)
        return {"left": identity(unit, m, n, sides), "right": identity(unit, n, m, sides)}

    def scale(self, factors: Factors, scale: torch.Tensor) -> Factors:
        """Q times a number, half on either side."""
        root = scale.sqrt()
        return {side: root * q for side, q in factors.items()}

    def probe(self, group: dict[str, Any], members: list[torch.Tensor]) -> list[torch.Tensor | None]:
        """A normal matrix, `probe_matrix.<leaf>`, where it is not integrated out."""
        names, sides = self.names(group), Sides.of(group)
        units = {names[p]: x for p, x in zip(members, self.units(members), strict=True)}
        needed = {name: x for name, x in units.items() if not sides.integrates(*x.shape)}
        drawn = normals(self.noise, "probe_matrix", group["count"], needed)
        return [drawn.get(name) for name in units]

    def suffixes(self, group: dict[str, Any], members: list[torch.Tensor]) -> list[str]:
        """Each parameter draws for itself."""
        names = self.names(group)
        return [f".{names[p]}" for p in members]

    def fit(self, factors: Factors, given: Fit) -> Factors:
        """One relative gradient step of both sides, then balanced now and then."""
        old = [factors["left"], factors["right"]]
        a = times(old[1], times(old[0], given.h, 0), 1)
        grams = [gram(a, axis, q.ndim < 2) for axis, q in enumerate(old)]
        expected = integrated(old) if given.v is None else probed(old, given.v)
        left, right = (fit_side(*side, given) for side in zip(old, grams, expected, strict=True))
        if given.uniform("balance_u") < BALANCE_PROBABILITY:
            ratio = (left.abs().max() / right.abs().max()).sqrt()
            left, right = left / ratio, right * ratio
        return {"left": left, "right": right}

    def apply(self, factors: Factors, m: torch.Tensor) -> torch.Tensor:
        """Q_l^T Q_l M Q_r^T Q_r."""
        return precondition([factors["left"], factors["right"]], m)


def identity(unit: torch.Tensor, size: int, other: int, sides: Sides) -> torch.Tensor:
    """The identity of one side."""
    make = torch.eye if sides.triangular(size, other) else torch.ones
    return make(size, dtype=unit.dtype, device=unit.device)


def matrix(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as a matrix."""
    axes, rows, columns = matricized(tuple(tensor.shape))
    return tensor.permute(axes).reshape(rows, columns).to(wide(tensor.dtype))


def tensor_of(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The tensor back from its matrix."""
    axes, _, _ = matricized(tuple(like.shape))
    back = sorted(range(like.ndim), key=axes.__getitem__)
    return x.reshape([like.shape[i] for i in axes]).permute(back).to(like.dtype)


def probed(qs: list[torch.Tensor], v: torch.Tensor) -> list[torch.Tensor]:
    """B B^T and B^T B, or their diagonals."""
    b = divide(qs[1], divide(qs[0], v, 0), 1)
    return [gram(b, axis, q.ndim < 2) for axis, q in enumerate(qs)]


def integrated(qs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The expectations of B B^T and B^T B over V, or their diagonals."""
    inverses = [
        1 / q if q.ndim < 2 else torch.linalg.solve_triangular(q, torch.eye(len(q)).to(q), upper=True)
        for q in qs
    ]
    left, right = (x * x if x.ndim < 2 else x.T @ x for x in inverses)
    traces = [(x * x).sum() for x in inverses]
    return [traces[1] * left, traces[0] * right]


def fit_side(q: torch.Tensor, t1: torch.Tensor, t2: torch.Tensor, given: Fit) -> torch.Tensor:
    """Q <- Q - lr tri(T1 - T2) Q / |T1 + T2|, or / |tri(T1 - T2)|."""
    if q.ndim < 2:
        gradient = t1 - t2
        bound = (t1 + t2).max() if given.second_order else gradient.abs().max()
        return q - given.lr / bound.clamp(min=1e-25) * gradient * q
    gradient = (t1 - t2).triu()
    bound = norm_lower_bound(t1 + t2) if given.second_order else longest_bound(gradient)
    return q - (given.lr / bound.clamp(min=1e-25) * gradient) @ q


def longest_bound(a: torch.Tensor) -> torch.Tensor:
    """The norm lower bound of a matrix that is not symmetric, from its longest column or row."""
    b = a / a.abs().max()
    by_column = (b * b).sum(0).max() > (b * b).sum(1).max()
    return torch.where(by_column, norm_lower_bound(a), norm_lower_bound(a.T))
