"""The group of XMat, in either framework; the mathematics is on the page of `optbench.optimizers.xmat`."""

from __future__ import annotations

from typing import Any

from optbench.optimizers.psgd.groups import Factors, Fit, WholeVector
from optbench.protocol import Noise


class XGroup(WholeVector):
    """Q = diag(a) + antidiag(b)."""

    def init(self, unit: Any, noise: Noise) -> Factors:
        return {"a": self.xp.np.ones_like(unit), "b": self.xp.np.zeros_like(unit)}

    def scaled(self, factors: Factors, scale: Any) -> Factors:
        return {"a": scale * factors["a"], "b": factors["b"]}  # b is still 0

    def fit(self, factors: Factors, given: Fit) -> Factors:
        np, flipped = self.xp.np, self.xp.flipped
        a, b, h, v = factors["a"], factors["b"], given.h, given.v
        fa, fb = flipped(a), flipped(b)
        w = a * h + b * flipped(h)
        z = (fa * v - fb * flipped(v)) / (a * fa - b * fb)
        size_a = w * w - z * z
        size_b = w * flipped(w) - z * flipped(z)
        if len(h) % 2:
            # The middle entry is on both diagonals; a has it.
            size_b = self.xp.cleared(size_b, len(h) // 2)
        first = lambda: np.maximum(abs(size_a).max(), abs(size_b).max())  # noqa: E731
        k = given.lr / self.xp.floored((w * w + z * z).max() if given.second_order else first())
        return {"a": a - k * (size_a * a + size_b * fb), "b": b - k * (size_a * b + size_b * fa)}

    def apply(self, factors: Factors, m: Any) -> Any:
        a, b, flipped = factors["a"], factors["b"], self.xp.flipped
        cross = a * b
        return (a * a + flipped(b * b)) * m + (cross + flipped(cross)) * flipped(m)
