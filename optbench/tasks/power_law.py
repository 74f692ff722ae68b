"""A quadratic on which gradient descent is known to follow a power law: what fits of scaling are tested against.

    f(x) = sum_i lambda_i c_i^2 / 2 in the basis of A,   lambda_i = i^-p,   lambda_i c_i^2 = i^-q / Z at the start

Gradient descent takes c_i to (1 - eta lambda_i)^t c_i, so that what is left after t steps is the sum of i^-q over
i > (2 eta t)^(1/p): f falls as t^-((q - 1)/p) while that is well below dim. Momentum and preconditioners are faster.
Z makes f = 1 at the start; the seed draws the signs of the c_i.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import hyper
from optbench.lazy import np
from optbench.task import Arrays, Target, Task, stream
from optbench.tasks.quadratic import rotated, value


@dataclass(frozen=True, kw_only=True)
class PowerLaw(Task):
    __doc__ = __doc__
    source: ClassVar[str] = "synthetic; spectra after arXiv:2010.13456"
    optimum: ClassVar[float | None] = 0.0
    toy: ClassVar[bool] = True

    dim: int = hyper(400, "number of parameters", bounds="[2, 20000]")
    p: float = hyper(2.0, "decay of the eigenvalues", bounds="(0, inf)")
    q: float = hyper(2.5, "decay of the energies", bounds="(1, inf)")
    rotation: int | None = hyper(0, "seed of the rotation; None keeps A diagonal", bounds="[0, inf)")

    def targets(self) -> tuple[Target, ...]:
        """Fractions of the starting value."""
        return tuple(Target("loss", value) for value in (0.2, 0.05, 0.01))

    def data(self) -> dict[str, Any]:
        """The matrix A [dim, dim]."""
        return {"A": basis(self.dim, self.p, self.rotation)[0]}

    def init(self, seed: int) -> dict[str, Any]:
        """Random signs of the start's parts along the eigenvectors."""
        i = np.arange(1, self.dim + 1)
        energies = i**-self.q
        parts = np.sqrt(2 * energies / energies.sum() * i**self.p)
        signs = stream(seed, "init").choice([-1.0, 1.0], self.dim)
        return {"x": basis(self.dim, self.p, self.rotation)[1] @ (signs * parts)}

    def loss(self, params: Arrays, data: Arrays) -> Any:
        return value(params, data)

    def flops(self) -> float:
        return 4.0 * self.dim**2


@functools.lru_cache(maxsize=8)
def basis(dim: int, p: float, rotation: int | None) -> tuple[Any, Any]:
    return rotated(np.arange(1, dim + 1) ** -p, rotation)
