"""A quadratic with a chosen spectrum: the problem on which every optimizer's theory is written.

    f(x) = x^T A x / 2,  A = R diag(lambda) R^T,  largest eigenvalue 1, smallest 1 / condition

`log` spreads the eigenvalues evenly on a log scale; `clustered` puts a tenth of them (at least one) near 1
and the rest near 1 / condition, as in Hessians of networks (Sagun et al., arXiv:1611.07476). The start is
drawn from the seed and scaled so that f = 1. With `noise` each step sees f(x) + noise z.x / sqrt(dim),
z ~ N(0, I): gradients with a known variance.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import hyper
from optbench.lazy import np
from optbench.task import Functions, Presets, Target, Task, stream


@dataclass(frozen=True, kw_only=True)
class Quadratic(Task):
    __doc__ = __doc__
    presets: ClassVar[Presets] = {
        "quadratic_10": {"dim": 10},
        "quadratic_10_1e4": {"dim": 10, "condition": 1e4},
        "quadratic_10_1e6": {"dim": 10, "condition": 1e6},
        "quadratic_100": {"dim": 100, "condition": 1e4},
        "quadratic_100_1e2": {"dim": 100, "condition": 1e2},
        "quadratic_100_1e6": {"dim": 100, "condition": 1e6},
        "quadratic_1000": {"dim": 1000, "condition": 1e4, "spectrum": "clustered"},
    }
    source: ClassVar[str] = "synthetic; spectra after arXiv:1611.07476"
    optimum: ClassVar[float | None] = 0.0
    toy: ClassVar[bool] = True

    dim: int = hyper(10, "number of parameters", bounds="[1, 20000]")
    condition: float = hyper(100.0, "largest over smallest eigenvalue", bounds="[1, inf)")
    spectrum: str = hyper("log", "how eigenvalues are spread", choices=("log", "clustered"))
    rotation: int | None = hyper(0, "seed of the rotation R; None keeps A diagonal", bounds="[0, inf)")
    noise: float = hyper(0.0, "standard deviation of the gradient noise", bounds="[0, inf)")

    @property
    def horizon(self) -> int:
        """Ill-conditioned ones take longer."""
        return 1000 if self.condition <= 1e3 else 2000

    def targets(self) -> tuple[Target, ...]:
        """Fractions of the starting value."""
        if self.noise:
            return (Target("loss", 1e-1), Target("loss", 1e-2))
        return (Target("loss", 1e-2), Target("loss", 1e-4), Target("loss", 1e-8, final=True))

    def data(self) -> dict[str, Any]:
        """The matrix A [dim, dim]."""
        return {"A": matrix(self.dim, self.condition, self.spectrum, self.rotation)}

    def init(self, seed: int) -> dict[str, Any]:
        """A random direction, scaled so that the loss is 1."""
        x = stream(seed, "init").standard_normal(self.dim)
        return {"x": x / np.sqrt(x @ self.data()["A"] @ x / 2)}

    def draws(self, seed: int, start: int, stop: int) -> dict[str, Any]:
        """The linear term of each step's loss, where there is noise."""
        if not self.noise:
            return {}
        scale = self.noise / np.sqrt(self.dim)
        normal = [stream(seed, f"batches/{t}").standard_normal(self.dim) for t in range(start, stop)]
        return {"z": scale * np.stack(normal)}

    def jax(self) -> Functions:
        def loss(params, data, draw):
            return value(params, data) + (params["x"] @ draw["z"] if self.noise else 0)

        return Functions(loss, lambda params, data: {"loss": value(params, data)})

    torch = jax

    def flops(self) -> float:
        return 4.0 * self.dim**2


def value(params: Any, data: Any) -> Any:
    """x^T A x / 2; both frameworks spell a matrix product the same way."""
    x = params["x"]
    return x @ (data["A"] @ x) / 2


@functools.lru_cache(maxsize=8)
def matrix(dim: int, condition: float, spectrum: str, rotation: int | None) -> Any:
    """A of a spectrum."""
    if spectrum == "log":
        values = condition ** -np.linspace(0, 1, dim) if dim > 1 else np.ones(1)
    else:
        large = max(1, dim // 10)
        near_one, near_least = np.linspace(1.0, 0.8, large), np.linspace(1.25, 1.0, dim - large) / condition
        values = np.concatenate([near_one, near_least])
    return rotated(values, rotation)[0]


def rotated(values: Any, rotation: int | None) -> tuple[Any, Any]:
    """A = R diag(lambda) R^T, symmetric to the last bit, and R."""
    if rotation is None:
        return np.diag(values), np.eye(len(values))
    basis, triangle = np.linalg.qr(stream(rotation, "rotation").standard_normal((len(values),) * 2))
    basis = basis * np.sign(np.diag(triangle))  # the Haar measure needs the signs
    a = (basis * values) @ basis.T
    return (a + a.T) / 2, basis
