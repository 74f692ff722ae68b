"""Functions of two numbers whose complete path is kept, for figures: every step is evaluated, and x and y are metrics.

    valley   f(x, y) = 100 (y - x^2)^2 + (1 - x)^2    from (-1.2, 1), minimum 0 at (1, 1): Rosenbrock's
    bowl     f(x, y) = (u^2 + 25 v^2) / 2                from (-1.8, 0.4), minimum 0 at (0, 0)

The axes u and v of the bowl lie 30 degrees askew, since methods that scale each coordinate by itself would find
straight ones too easy. Nothing is random. To compare optimizers take `rosenbrock` and `quadratic`, which run many seeds
and are timed without an evaluation at every step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import hyper
from optbench.lazy import np
from optbench.task import Arrays, Presets, Target, Task

STARTS = {"valley": (-1.2, 1.0), "bowl": (-1.8, 0.4)}
MINIMA = {"valley": (1.0, 1.0), "bowl": (0.0, 0.0)}
COSINE, SINE = math.cos(math.pi / 6), math.sin(math.pi / 6)
"""Of the angle of the bowl's axes."""
DENSE = 1000
"""Steps up to which every one is evaluated."""


@dataclass(frozen=True, kw_only=True)
class Plane(Task):
    __doc__ = __doc__
    presets: ClassVar[Presets] = {"valley": {"function": "valley"}, "bowl": {"function": "bowl"}}
    source: ClassVar[str] = "Rosenbrock 1960, doi:10.1093/comjnl/3.3.175; synthetic"
    optimum: ClassVar[float | None] = 0.0
    toy: ClassVar[bool] = True
    horizon: ClassVar[int] = 500
    """Short: every step is evaluated."""
    seeded: ClassVar[bool] = False
    """One path for each learning rate."""

    function: str = hyper("valley", "which function", choices=tuple(STARTS))

    def targets(self) -> tuple[Target, ...]:
        """From about a sixth of the way down to well below what a picture shows."""
        return (Target("loss", 1e-1), Target("loss", 1e-3), Target("loss", 1e-6, final=True))

    def loss(self, params: Arrays, data: Arrays) -> Any:
        x, y = params["x"][0], params["x"][1]
        if self.function == "valley":
            return 100 * (y - x * x) ** 2 + (1 - x) ** 2
        u, v = COSINE * x + SINE * y, COSINE * y - SINE * x
        return (u * u + 25 * v * v) / 2

    def evaluate(self, params: Arrays, data: Arrays) -> dict[str, Any]:
        return {"loss": self.loss(params, data), "x": params["x"][0], "y": params["x"][1]}

    def surface(self) -> tuple[Any, Any, Any]:
        """The function multiplied out."""
        if self.function == "valley":
            table = [[1, 0, 100], [-2, 0, 0], [1, -200, 0], [0, 0, 0], [100, 0, 0]]
        else:
            mixed, square = -24 * COSINE * SINE, (SINE**2 + 25 * COSINE**2) / 2
            table = [[0, 0, square], [0, mixed, 0], [(COSINE**2 + 25 * SINE**2) / 2, 0, 0]]
        return table, STARTS[self.function], MINIMA[self.function]

    def init(self, seed: int) -> dict[str, Any]:
        return {"x": np.array(STARTS[self.function])}

    def flops(self) -> float:
        return 50.0

    def evaluation_steps(self, steps: int) -> tuple[int, ...]:
        """Every one, or about as many of a longer run."""
        every = math.ceil(steps / DENSE)
        return tuple(sorted({*range(0, steps, every), steps}))
