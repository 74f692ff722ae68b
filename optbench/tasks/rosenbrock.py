"""Rosenbrock's function: a curved valley that is easy to find and slow to follow.

    f(x) = sum_i (100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2),  minimum 0 at (1, .., 1)

In two dimensions the classic, started at (-1.2, 1); in n dimensions the chain, started at (-1.2, 1, -1.2, ..).
The start is jittered by the seed with standard deviation `jitter`; without it one seed is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import hyper
from optbench.lazy import np
from optbench.task import Arrays, Presets, Target, Task, stream


@dataclass(frozen=True, kw_only=True)
class Rosenbrock(Task):
    __doc__ = __doc__
    presets: ClassVar[Presets] = {
        "rosenbrock_2": {"dim": 2},
        "rosenbrock_10": {"dim": 10},
        "rosenbrock_100": {"dim": 100},
        "rosenbrock_1000": {"dim": 1000},
    }
    source: ClassVar[str] = "Rosenbrock 1960, doi:10.1093/comjnl/3.3.175"
    optimum: ClassVar[float | None] = 0.0
    toy: ClassVar[bool] = True

    dim: int = hyper(2, "number of parameters", bounds="[2, 1000000]")
    jitter: float = hyper(0.1, "standard deviation of the start", bounds="[0, inf)")

    @property
    def seeded(self) -> bool:
        """Only a jittered start depends on the seed."""
        return self.jitter > 0

    @property
    def horizon(self) -> int:
        """Enough to follow the valley, one pair after the other: in 1,000 dimensions no method gets there in 2,000."""
        return max(2000, min(20 * self.dim, 20_000))

    def targets(self) -> tuple[Target, ...]:
        """Per dimension, so that chains of any length are alike."""
        scale = self.dim / 2
        return (
            Target("loss", 1e-1 * scale),
            Target("loss", 1e-3 * scale),
            Target("loss", 1e-8 * scale, final=True),
        )

    def init(self, seed: int) -> dict[str, Any]:
        """(-1.2, 1, -1.2, ..) and the jitter."""
        start = np.where(np.arange(self.dim) % 2 == 0, -1.2, 1.0)
        return {"x": start + self.jitter * stream(seed, "init").standard_normal(self.dim)}

    def loss(self, params: Arrays, data: Arrays) -> Any:
        head, tail = params["x"][:-1], params["x"][1:]
        return (100 * (tail - head**2) ** 2 + (1 - head) ** 2).sum()

    def flops(self) -> float:
        return 25.0 * self.dim
