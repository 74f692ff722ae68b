"""PSGD Kron: whitening with a Kronecker-factored preconditioner on the group of triangular matrices.

For a leaf G [n_1 .. n_d] one factor Q_i for each axis, upper triangular [n_i, n_i] or diagonal [n_i]:

    m <- b1 m + (1 - b1) g                   momentum;  G = m / (1 - b1^t)
    A = kron(Q_1, .., Q_d) G~                G~ = G + sqrt(eps) mean|G| V,  V ~ N(0, I)
    B = kron(Q_1^-T, .., Q_d^-T) V
    Q_i <- Q_i - lr_p tri(A_i A_i^T - B_i B_i^T) Q_i / |A_i A_i^T + B_i B_i^T|
    u = Q_i^T Q_i G,  u <- u / max(1, rms(u) / 1.1)        along each axis
    theta <- theta - learning_rate (u + weight_decay theta)

The factors are fitted on the steps that a deterministic counter says: whenever it has counted 1/p steps,
where p is the update probability at that step, 1 for the first 500 steps and then annealed to 0.03.
A leaf whose mean|G| is below the root of the dtype's smallest number (1.1e-19 in float32) is not fitted: without
gradient its factors would grow until they overflow (upstream='0.2.9' fits it, and balances float64
factors in float32, as psgd-jax does). upstream='0.2.7' draws the steps that
fit at random with probability p, leaves the damping out, and bends each entry of u towards +-2 instead of
clipping the mean square.

`kron[dQ=QUAD]`, with any dQ, is another optimizer: `kron_dq`, PSGD Kron as the package psgd_torch has it.

Source: Xi-Lin Li, Preconditioned Stochastic Gradient Descent, arXiv:1512.04202; Preconditioner on Matrix
Lie Group for SGD, arXiv:1809.10232; package psgd-jax 0.2.9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from optbench.fields import MOMENTUM, Search, hyper
from optbench.optimizers.adapter import Room, decay, declared, flag, size, step_size, weight_decay
from optbench.protocol import Shapes

DAMPING = 0.0003452669770922512
"""sqrt of the float32 machine epsilon, rounded to float32, in every dtype."""
RMS_CLIP = 1.1
RELEASES = ("0.2.9", "0.2.7")
"""What `upstream` may ask for."""


MODES = (None, "one_diag", "smart_one_diag", "all_diag")


class Shaping(NamedTuple):
    """Which factors of a leaf are triangular and which diagonal."""

    max_size_triangular: int
    min_ndim_triangular: int
    memory_save_mode: str | None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Shaping:
        return cls(*(options[name] for name in cls._fields))


def factor_kinds(shape: tuple[int, ...], shaping: Shaping) -> list[str]:
    """'diagonal' or 'triangular' for each axis of a leaf (or of one layer of a stack)."""
    if len(shape) > 13:
        raise ValueError(f"kron: a leaf has {len(shape)} dimensions; at most 13 are supported")
    mode = shaping.memory_save_mode
    if mode not in MODES:
        raise ValueError(f"kron: memory_save_mode={mode!r} is not one of {', '.join(map(repr, MODES))}")
    # On ties the last axis is the largest, as a stable argsort puts it last.
    largest = max(range(len(shape)), key=lambda i: (shape[i], i), default=-1)
    stands_out = len(shape) > 1 and sorted(shape)[-1] > sorted(shape)[-2]
    return [
        "diagonal"
        if n == 1
        or n > shaping.max_size_triangular
        or len(shape) < shaping.min_ndim_triangular
        or mode == "all_diag"
        or (mode == "one_diag" and i == largest)
        or (mode == "smart_one_diag" and i == largest and stands_out)
        else "triangular"
        for i, n in enumerate(shape)
    ]


def first_factors(np: Any, shape: tuple[int, ...], shaping: Shaping, scale: Any, **like: Any) -> list[Any]:
    """Multiples of the identity, whose product is `scale`; `np` is jax.numpy or torch."""
    if not shape:
        return [np.full((), scale, **like)]
    each = scale ** (1 / len(shape))
    kinds = factor_kinds(shape, shaping)
    ones = {"diagonal": np.ones, "triangular": np.eye}
    return [each * ones[kind](n, **like) for n, kind in zip(shape, kinds, strict=True)]


def along(q: Any, ndim: int, axis: int) -> Any:
    """A diagonal factor in the shape in which it multiplies along one axis."""
    return q.reshape([-1 if i == axis else 1 for i in range(ndim)])


@declared
class Kron(Room):
    __doc__ = __doc__
    source: ClassVar[str] = "arXiv:1512.04202, arXiv:1809.10232; psgd-jax 0.2.9"
    draws: ClassVar[bool] = True
    memory: ClassVar[str] = "n + sum over axes of n_i^2 (triangular) or n_i (diagonal)"

    learning_rate: float = step_size(0.001, 1e-4)
    b1: float = decay(0.9, "the momentum; 0 keeps none", MOMENTUM)
    weight_decay: float = weight_decay()
    preconditioner_update_probability: float | None = hyper(
        None, "rate of preconditioner updates; None anneals 1 to 0.03", bounds="(0, 1]"
    )
    max_size_triangular: int = hyper(8192, "a larger dimension is diagonal", bounds="[0, inf)")
    min_ndim_triangular: int = hyper(2, "a tensor with fewer dimensions is diagonal", bounds="[0, inf)")
    memory_save_mode: str | None = hyper(
        None,
        "which factors are diagonal: also the largest dimension's (one_diag), if it is larger than all others "
        "(smart_one_diag), or all",
        choices=MODES,
    )
    momentum_into_precond_update: bool = flag(True, "fit on the momentum, not on the gradient")
    preconditioner_lr: float = hyper(
        0.1, "step size of the preconditioner's fit", bounds="(0, inf)", lane=True, search=Search(0.01, 1.0)
    )
    preconditioner_init_scale: float = hyper(1.0, "scale of the first preconditioner", bounds="(0, inf)")
    upstream: str | None = hyper(
        None, "None, or a release of psgd-jax whose numerics are wanted", choices=(None, *RELEASES)
    )

    def axes(self, shapes: Shapes) -> list[tuple[int, int, bool]]:
        """The numbers of the leaf, the length, and whether it is triangular, for each factor but those of scalars."""
        shaping = Shaping.of(self.options())
        return [
            (math.prod(shape), n, kind == "triangular")
            for shape in shapes.values()
            for n, kind in zip(shape, factor_kinds(shape, shaping), strict=True)
        ]

    def state_floats(self, shapes: Shapes) -> int:
        factors = sum(n * n if triangular else n for _, n, triangular in self.axes(shapes))
        return factors + sum(not shape for shape in shapes.values()) + (self.b1 > 0) * size(shapes)

    def flops(self, shapes: Shapes) -> float:
        """About nine products or solves along each triangular axis, when the factors are fitted."""
        products = sum(18.0 * n * numel for numel, n, triangular in self.axes(shapes) if triangular)
        return 10.0 * self.state_floats(shapes) + products

    def vectorizes(self, shapes: Shapes) -> bool:
        """Not where a triangular solve would be batched: that stands still on XLA's CPU thread pool."""
        return not any(triangular for _, _, triangular in self.axes(shapes))


FITTING = (
    "preconditioner_update_probability max_size_triangular min_ndim_triangular memory_save_mode "
    "momentum_into_precond_update"
)
"""The arguments that the factory and the classes take in the same order."""
ALONE = {
    "precond_dtype": hyper(None, "dtype in which the factors are kept; None is at least float32"),
    "upstream": hyper(
        None,
        "True is psgd-jax 0.2.9, which fits a leaf without gradient until it overflows, and balances in float32; "
        "'0.2.7' its older rule: update drawn at random, no damping, a trust region in place of the clip",
    ),
}
"""What the factory and the class take beside the fields, and beside what all of PSGD take."""
