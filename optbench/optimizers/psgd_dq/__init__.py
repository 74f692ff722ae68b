"""PSGD Kron as the package psgd_torch has it: a choice of geometry dQ, and steps divided by tracked bounds.

P = Q^T Q is fitted to |H|^-1 (mode=hessian; psgd_torch's Newton) or to E[g g^T]^-1/2 (mode=whitening). Q is a
Kronecker product with a factor Q_i for each axis n_i > 1 of a leaf of n numbers: a matrix where
n_i <= preconditioner_max_size and n_i^2 <= preconditioner_max_skew n, else diagonal. At a step that fits:

    h = H v                                 v ~ N(0, I);  in whitening h = g,  or the momentum with `whiten_grad=False`
    h <- h + (damping + eps |h|) N          by entry,  N ~ N(0, I),  eps of the dtype
    T1 = unf_i(P h) unf_i(P h)^T            T2 = unf_i(v) unf_i(v)^T,  in whitening its mean, I n / n_i
    L <- max(betaL L + (1 - betaL) l, l)    l: a lower bound of |T1 + T2|
    k = lr_preconditioner / L,  E = T1 - T2

    dQ=Q0.5EQ1.5   Q_i <- Q_i - k E Q_i        and a rotation towards a symmetric Q_i
    dQ=QUAD        p = Q_i - k/2 E Q_i;  Q_i <- p - k/2 p E        made symmetric
    dQ=QEQ         Q_i <- Q_i - k Q_i E
    dQ=QEP         Q_i <- Q_i - k E Q_i      T1 of Q_i P h, T2 of Q_i v in place of P h and v
    dQ=EQ          Q_i <- Q_i - k tri(E) Q_i   upper triangular; T1 of Q h, T2 of Q^-T v, in whitening N for v
    dQ=PRO4P       Q0.5EQ1.5 on P_i in place of Q_i, with up to ten rotations
    dQ=QUAD4P      QUAD on P_i in place of Q_i, with k in place of k/2

    m <- b m + (1 - b) g                           b = min(c / (1 + c), momentum),  after c steps
    u = P m
    u <- u / max(1, rms(u) / grad_clip_max_rms)    whitening: by leaf, then entries within +-grad_clip_max_entry
    u <- u min(1, grad_clip_max_norm / |u|)        hessian
    theta <- theta - learning_rate (u + weight_decay theta)

A rotation is Q + a (R Q + a/2 R^2 Q), R = (Q^T - Q) / |Q^T - Q|, with the a <= 1/8 of the largest trace; for PRO4P it
has a third term, a <= 1/3, and is repeated until |P^T - P| < 0.001 |P| in largest entries. Norms are lower bounds from
32 normal rows times T1 + T2 (or R) four times. The factors of a leaf are scaled to equal largest entries on a step of
a hundred, at random; for QEP before every fit. Without an initial scale Q starts at (s + damping^4)^(-1/8), s the
largest mean of h^4 of a leaf, in hessian mode times mean(v^2)^(1/4).

`kron[dQ=QUAD]` means this optimizer too.

Source: Xi-Lin Li, Preconditioned Stochastic Gradient Descent, arXiv:1512.04202; Stochastic Hessian Fittings with Lie
Groups, arXiv:2402.11858; package psgd_torch, commit a8616f1 (2025).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from optbench.fields import FROM_NONE, Search, UserError, hyper
from optbench.optimizers.adapter import decay, declared, flag, size, small, step_size, weight_decay
from optbench.optimizers.psgd import CurvatureRoom
from optbench.protocol import Shapes
from optbench.ranges import is_off

GEOMETRIES = ("Q0.5EQ1.5", "EQ", "QEQ", "QUAD", "QEP", "PRO4P", "QUAD4P")
OF_P = ("PRO4P", "QUAD4P")
"""Where the factors are those of P, not of Q."""
LARGEST_BATCHED = 128
"""Rows of a matrix up to which lanes run side by side."""


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its axes of length 1; (1,) for a single number."""
    return tuple(n for n in shape if n != 1) or (1,)


def factor_axes(shape: tuple[int, ...], max_size: int | None, max_skew: float) -> list[tuple[int, bool]]:
    """The length of each axis of a squeezed shape, and whether its factor is a matrix."""
    most, numbers = max_size or max(shape), max_skew * math.prod(shape)
    return [(n, 1 < n <= most and n * n <= numbers) for n in shape]


def batches(dQ: str, sizes: list[int]) -> bool:
    """Whether steps of matrices of these sizes may run under vmap.

    Not where a triangular solve would be batched: that stands still on XLA's CPU thread pool. Batched products of
    large matrices take it several times as long as one after the other.
    """
    return not sizes or (dQ != "EQ" and max(sizes) <= LARGEST_BATCHED)


def geometry(*choices: str) -> Any:
    return hyper(choices[0], "geometry in which the preconditioner moves", choices=choices)


@declared
class Tracked(CurvatureRoom):
    """The fields that KronDQ, LraDQ and DenseNewton share."""

    source: ClassVar[str] = "arXiv:1512.04202, arXiv:2402.11858; psgd_torch a8616f1"

    learning_rate: float = step_size(0.001, 1e-4)
    momentum: float = decay(0.0, "the momentum; 0 keeps none", FROM_NONE)
    lr_preconditioner: float = hyper(
        0.1, "step size of the preconditioner's fit", bounds="(0, inf)", lane=True, search=Search(0.01, 1.0)
    )
    betaL: float = decay(0.9, "the bound that the fit's step is divided by")
    damping: float = small(1e-9, "keeps P below its inverse")
    weight_decay: float = weight_decay()
    preconditioner_init_scale: float | None = hyper(
        None, "scale of the first Q; None takes it from the first step", bounds="(0, inf)"
    )
    preconditioner_update_probability: float = hyper(1.0, "probability of a fit at a step", bounds="(0, 1]")
    grad_clip_max_norm: float | None = hyper(
        None, "hessian mode: largest l2 norm of the whole update", bounds="(0, inf)"
    )

    def momentum_floats(self, shapes: Shapes) -> int:
        """Beside them are the factors, and a bound of each."""
        return (self.momentum > 0) * size(shapes)


@declared
class Whitening(Tracked):
    """The fields of those that can whiten too."""

    mode: str = hyper(
        "whitening", "fit to gradients, or to Hessian-vector products", choices=("whitening", "hessian")
    )
    whiten_grad: bool = flag(True, "whitening: fit on the gradient, not on the momentum")
    update_preconditioner_first: bool = flag(True, "whitening: fit before preconditioning, not after")
    grad_clip_max_rms: float | None = hyper(
        2.0, "whitening: largest root mean square of a leaf's update", bounds="(0, inf)"
    )
    grad_clip_max_entry: float | None = hyper(
        10.0, "whitening: largest entry of the update", bounds="(0, inf)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_momentum(self.name, self.options())


@declared
class KronDQ(Whitening):
    __doc__ = __doc__
    memory: ClassVar[str] = "sum over axes of n_i^2 (matrix) or n_i (diagonal), and n of momentum"

    dQ: str = geometry(*GEOMETRIES)
    preconditioner_max_size: int | None = hyper(
        None, "a larger dimension is diagonal; None sets no limit", bounds="[1, inf)"
    )
    preconditioner_max_skew: float = hyper(
        1.0, "a dimension whose square is more than so many times the leaf is diagonal", bounds="(0, inf)"
    )

    def axes(self, shapes: Shapes) -> list[tuple[int, int, bool]]:
        """The numbers of the leaf, the length, and whether it is a matrix, for each factor."""
        limits = self.preconditioner_max_size, self.preconditioner_max_skew
        units = map(squeezed, shapes.values())
        return [(math.prod(unit), *axis) for unit in units for axis in factor_axes(unit, *limits)]

    def state_floats(self, shapes: Shapes) -> int:
        factors = sum(1 + (n * n if dense else n) for _, n, dense in self.axes(shapes))
        return self.momentum_floats(shapes) + factors

    def flops(self, shapes: Shapes) -> float:
        """About six products along each dense axis, and ten with the factor itself, when the factors are fitted."""
        dense = [(numel, n) for numel, n, dense in self.axes(shapes) if dense]
        return 10.0 * self.state_floats(shapes) + sum(12.0 * n * numel + 20.0 * n**3 for numel, n in dense)

    def vectorizes(self, shapes: Shapes) -> bool:
        return batches(self.dQ, [n for _, n, dense in self.axes(shapes) if dense])


@declared
class LraDQ(Whitening):
    """PSGD LRA as the package psgd_torch has it: a diagonal plus a matrix of low rank, on all parameters as one vector.

        Q = (I + U V^T) diag(d)
        L <- max(betaL L + (1 - betaL) l, l)    the steps of U, V and d are those of `lra`, divided by L
        l = max|(P h) h| + max|v (P^-1 v)|      of d; products by entry
        l = |a| |V V^T a| + |b| |V V^T b|       of U, and of V with U for V;  a = Q h,  b = Q^-T v

    U and V start at a norm of sqrt(0.1) and are moved towards U^T U = V^T V before every fit; rank 0 is diagonal.
    All else (h, its damping, the momentum, the clips, the first scale) is as in `kron_dq`; whitening takes N for v.
    The one geometry is EQ; `lra[dQ=EQ]` means this optimizer too.

    Source: Xi-Lin Li, arXiv:1512.04202, arXiv:2402.11858; package psgd_torch, commit a8616f1 (2025).
    """

    name: ClassVar[str] = "lra_dq"
    memory: ClassVar[str] = "(2 r + 1) n, and n of momentum"

    dQ: str = geometry("EQ")
    rank_of_approximation: int = hyper(10, "rank r of the correction to the diagonal", bounds="[0, inf)")

    def state_floats(self, shapes: Shapes) -> int:
        return self.momentum_floats(shapes) + (2 * self.rank_of_approximation + 1) * size(shapes) + 3

    def vectorizes(self, shapes: Shapes) -> bool:
        """Not under vmap: a batched solve can stand still on XLA's CPU thread pool."""
        return False


@declared
class DenseNewton(Tracked):
    """PSGD with a dense preconditioner, as psgd_torch's DenseNewton: one n x n factor of all n parameters.

        T1 = a a^T,  T2 = b b^T,  l = |a|^2 + |b|^2

    But for this bound it is `kron_dq` in hessian mode, with all parameters as one vector and one factor. A step costs
    a few times n^2, with the geometries Q0.5EQ1.5, PRO4P and EQ n^3.

    Source: Xi-Lin Li, arXiv:1512.04202, arXiv:2402.11858; package psgd_torch, commit a8616f1 (2025).
    """

    memory: ClassVar[str] = "n^2, and n of momentum"
    dense: ClassVar[bool] = True
    mode: ClassVar[str] = "hessian"  # pyright: ignore[reportIncompatibleVariableOverride]

    learning_rate: float = step_size(0.01, 1e-4)
    dQ: str = geometry(*GEOMETRIES)

    def state_floats(self, shapes: Shapes) -> int:
        return self.momentum_floats(shapes) + size(shapes) ** 2 + 1

    def flops(self, shapes: Shapes) -> float:
        n, cubic = float(size(shapes)), self.dQ in ("Q0.5EQ1.5", "PRO4P", "EQ")
        return 30 * n**2 + cubic * 4 * n**3

    def vectorizes(self, shapes: Shapes) -> bool:
        return batches(self.dQ, [size(shapes)])


# --- what is used alone takes --------------------------------------------------------------------------------


def check_momentum(owner: str, options: Mapping[str, Any]) -> None:
    """Raise a ValueError where a momentum that is not kept is to be whitened."""
    if not options.get("whiten_grad", True) and is_off(options["momentum"]):
        raise UserError(f"{owner}: whiten_grad=False needs momentum above 0. See: optbench show {owner}")
