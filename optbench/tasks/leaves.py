"""One tiny tree that holds every kind of leaf, with a polynomial loss: what `optbench check` takes fingerprints on.

    loss = sum_i lit_i(t) [ h_i (x_i - c_i)^2 / 2 + (x_i - c_i)^4 / 50 + z_i(t) x_i ] + (sum_i lit_i(t) a_i x_i)^2 / 20

x are the numbers of all leaves but `dead`. The last term couples the leaves, the fourth power makes the Hessian depend
on the parameters, z is gradient noise, and `lit` is 1 but for the leaves `late` and `sparse`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from optbench.fields import hyper
from optbench.lazy import np
from optbench.task import Functions, stream
from optbench.tasks.network import Operations, WrittenOnce

SHAPES: dict[str, tuple[int, ...]] = {
    "column": (5, 1),
    "cube": (3, 2, 6),
    "dead": (2, 3),
    "kernel": (2, 3, 3, 2),
    "late": (3, 2),
    "matrix": (4, 6),
    "row": (1, 5),
    "scalar": (),
    "sparse": (6,),
}
"""The gradient of `dead` is always 0, of `late` on the first steps, of each entry of `sparse` on two steps of three."""
WAKES = 12
"""The first step at which `late` has a gradient, counted from 0."""
LARGE = {"long": (2, 260), "middle": (40, 3), "tall": (260, 2)}
"""Leaves whose products are computed in blocks, or apart from those of small leaves."""


@dataclass(frozen=True, kw_only=True)
class Leaves(WrittenOnce):
    __doc__ = __doc__

    large: bool = hyper(False, "adds large leaves", choices=(False, True))
    varied: bool = hyper(
        False,
        "first parameters and gradient noise differ between seeds, and not only what an optimizer draws",
        choices=(False, True),
    )
    nudged: bool = hyper(False, "first parameters are moved by one rounding", choices=(False, True))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each leaf, sorted by name."""
        return dict(sorted((SHAPES | LARGE).items())) if self.large else SHAPES

    def lit(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the leaves that have a gradient."""
        return {name: shape for name, shape in self.shapes().items() if name != "dead"}

    def count(self) -> int:
        """How many numbers have a gradient."""
        return sum(map(math.prod, self.lit().values()))

    def own(self, seed: int) -> int:
        """What parameters and noise are drawn from."""
        return seed if self.varied else 7

    def init(self, seed: int) -> dict[str, np.ndarray]:
        made = {}
        for name, shape in self.shapes().items():
            drawn = stream(self.own(seed), name)
            made[name] = drawn.uniform(-1.5, 1.5, shape)
            if self.nudged:
                made[name] *= 1 + 2.0**-52 * drawn.choice((-1, 1), shape)
        return made

    def roles(self) -> dict[str, str]:
        return {"column": "embedding", "row": "head"}

    def data(self) -> dict[str, np.ndarray]:
        """Curvatures h, minima c, couplings a, and the weights with which a leaf is projected to a number."""
        kinds = {"h": (0.3, 3.0), "c": (-1.0, 1.0), "a": (-1.0, 1.0)}
        arrays = {kind: stream(7, f"{kind}.").uniform(*ends, self.count()) for kind, ends in kinds.items()}
        weights = {f"w.{name}": shape for name, shape in self.shapes().items()}
        return arrays | {name: stream(7, name).uniform(0.5, 1.5, shape) for name, shape in weights.items()}

    def draws(self, seed: int, start: int, stop: int) -> dict[str, np.ndarray]:
        t = np.arange(start, stop)[:, None]
        lit = {name: np.ones((stop - start, math.prod(shape))) for name, shape in self.lit().items()}
        lit["sparse"][:] = (np.arange(6) + t) % 3 == 0
        lit["late"][:] = t >= WAKES
        rngs = [stream(self.own(seed), f"z/{t}") for t in range(start, stop)]
        noise = [rng.uniform(-0.5, 0.5, self.count()) for rng in rngs]
        return {"z": np.stack(noise), "lit": np.hstack(list(lit.values()))}

    def functions(self, ops: Operations) -> Functions:
        """The loss and the weighted sum of each leaf."""

        def loss(params: Any, data: Any, draw: Any) -> Any:
            x = ops.np.concatenate([params[name].reshape(-1) for name in sorted(params) if name != "dead"])
            apart = x - data["c"]
            each = draw["lit"] * (data["h"] * apart**2 / 2 + apart**4 / 50 + draw["z"] * x)
            return each.sum() + (draw["lit"] * data["a"] * x).sum() ** 2 / 20

        def evaluate(params: Any, data: Any) -> dict[str, Any]:
            return {name: (data[f"w.{name}"] * params[name]).sum() for name in sorted(params)}

        return Functions(loss, evaluate)

    def evaluation_steps(self, steps: int) -> tuple[int, ...]:
        """0, powers of two, and the last."""
        return tuple(sorted({0, *(2**i for i in range(20) if 2**i < steps), steps}))

    def flops(self) -> float:
        """Few: lanes of it are small."""
        return 20.0 * self.count()
