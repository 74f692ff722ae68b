"""The group of XMat, in either framework; the mathematics is on the page of `optbench.optimizers.xmat`."""

from __future__ import annotations

from typing import Any

from optbench.optimizers.psgd.groups import Factors, Fit, WholeVector
from optbench.protocol import Noise


class XGroup(WholeVector):
    """Q = diag(a) + antidiag(b)."""

    def flip(self, x: Any) -> Any:
        return self.xp.np.flip(x, (0,))

    def init(self, unit: Any, noise: Noise) -> Factors:
        return {"a": self.xp.np.ones_like(unit), "b": self.xp.np.zeros_like(unit)}

    def scaled(self, factors: Factors, scale: Any) -> Factors:
        return {"a": scale * factors["a"], "b": factors["b"]}  # b is still 0

    def fit(self, factors: Factors, given: Fit) -> Factors:
        np = self.xp.np
        a, b, h, v = factors["a"], factors["b"], given.h, given.v
        fa, fb = self.flip(a), self.flip(b)
        w = a * h + b * self.flip(h)
        z = (fa * v - fb * self.flip(v)) / (a * fa - b * fb)
        size_a = w * w - z * z
        size_b = w * self.flip(w) - z * self.flip(z)
        if len(h) % 2:
            # The middle entry is on both diagonals; a has it.
            size_b = self.xp.cleared(size_b, len(h) // 2)
        first = lambda: np.maximum(abs(size_a).max(), abs(size_b).max())  # noqa: E731
        k = given.lr / np.clip((w * w + z * z).max() if given.second_order else first(), min=1e-25)
        return {"a": a - k * (size_a * a + size_b * fb), "b": b - k * (size_a * b + size_b * fa)}

    def apply(self, factors: Factors, m: Any) -> Any:
        a, b = factors["a"], factors["b"]
        cross = a * b
        return (a * a + self.flip(b * b)) * m + (cross + self.flip(cross)) * self.flip(m)
