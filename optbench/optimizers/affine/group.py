"""The group of Affine, in either framework; the mathematics is on the page of `optbench.optimizers.affine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from optbench.optimizers.affine import Sides, matricized
from optbench.optimizers.psgd import BALANCE_PROBABILITY
from optbench.optimizers.psgd.groups import Factors, Fit, Group
from optbench.protocol import Noise, normals


class Sided(Group):
    """Q = (left, right) for each leaf as a matrix."""

    own: ClassVar[str] = " ".join(Sides._fields)
    uniforms: ClassVar[tuple[str, ...]] = ("balance_u",)

    def __init__(self, xp: Any, options: Mapping[str, Any]):
        super().__init__(xp, options)
        self.sides = Sides.of(options)

    def units(self, leaves: Sequence[Any]) -> list[Any]:
        return [self.matrix(leaf) for leaf in leaves]

    def matrix(self, leaf: Any) -> Any:
        axes, rows, columns = matricized(tuple(leaf.shape))
        return self.xp.cast(self.xp.permuted(leaf, axes).reshape(rows, columns), self.xp.common([leaf]))

    def restore(self, units: list[Any], like: Sequence[Any]) -> list[Any]:
        return [self.leaf_of(x, leaf) for x, leaf in zip(units, like, strict=True)]

    def leaf_of(self, x: Any, like: Any) -> Any:
        axes, _, _ = matricized(tuple(like.shape))
        back = sorted(range(like.ndim), key=axes.__getitem__)
        return self.xp.cast(self.xp.permuted(x.reshape([like.shape[i] for i in axes]), back), like.dtype)

    def probe(self, noise: Noise, step: Any, likes: Mapping[str, Any]) -> list[Any]:
        """A normal matrix, `probe_matrix.<leaf>`, where it is not integrated out."""
        units = {name: self.matrix(leaf) for name, leaf in likes.items()}
        needed = {name: x for name, x in units.items() if not self.sides.integrates(*x.shape)}
        drawn = normals(noise, "probe_matrix", step, needed)
        return [drawn.get(name) for name in units]

    def init(self, unit: Any, noise: Noise) -> Factors:
        m, n = unit.shape
        return {"left": self.identity(m, n, unit), "right": self.identity(n, m, unit)}

    def identity(self, size: int, other: int, unit: Any) -> Any:
        return (self.xp.eye if self.sides.triangular(size, other) else self.xp.ones)(size, unit)

    def scaled(self, factors: Factors, scale: Any) -> Factors:
        root = self.xp.np.sqrt(scale)
        return {side: root * q for side, q in factors.items()}

    def fit(self, factors: Factors, given: Fit) -> Factors:
        xp, old = self.xp, [factors["left"], factors["right"]]
        a = xp.times(old[1], xp.times(old[0], given.h, 0), 1)
        grams = [xp.gram(a, axis, q.ndim < 2) for axis, q in enumerate(old)]
        expected = self.integrated(old) if given.v is None else self.probed(old, given.v)
        left, right = (self.fit_side(*side, given) for side in zip(old, grams, expected, strict=True))
        due = given.uniform("balance_u") < BALANCE_PROBABILITY
        ratio = xp.ratio_if(due, lambda: xp.np.sqrt(abs(left).max() / abs(right).max()))
        if ratio is not None:
            left, right = left / ratio, right * ratio
        return {"left": left, "right": right}

    def apply(self, factors: Factors, m: Any) -> Any:
        return self.xp.precondition([factors["left"], factors["right"]], m)

    def probed(self, qs: list[Any], v: Any) -> list[Any]:
        """B B^T and B^T B, or their diagonals."""
        b = self.xp.divide(qs[1], self.xp.divide(qs[0], v, 0), 1)
        return [self.xp.gram(b, axis, q.ndim < 2) for axis, q in enumerate(qs)]

    def integrated(self, qs: list[Any]) -> list[Any]:
        """The expectations of B B^T and B^T B over V, or their diagonals."""
        inverses = [1 / q if q.ndim < 2 else self.xp.inverse(q) for q in qs]
        left, right = (x * x if x.ndim < 2 else x.T @ x for x in inverses)
        traces = [(x * x).sum() for x in inverses]
        return [traces[1] * left, traces[0] * right]

    def fit_side(self, q: Any, t1: Any, t2: Any, given: Fit) -> Any:
        """Q <- Q - lr tri(T1 - T2) Q / |T1 + T2|, or / |tri(T1 - T2)|."""
        if q.ndim < 2:
            gradient = t1 - t2
            bound = (t1 + t2).max() if given.second_order else abs(gradient).max()
            return q - given.lr / self.xp.np.clip(bound, min=1e-25) * gradient * q
        gradient = self.xp.np.triu(t1 - t2)
        bound = self.xp.norm_lower_bound(t1 + t2) if given.second_order else self.longest_bound(gradient)
        return q - (given.lr / self.xp.np.clip(bound, min=1e-25) * gradient) @ q

    def longest_bound(self, a: Any) -> Any:
        """The norm lower bound of a matrix that is not symmetric, from its longest column or row."""
        b, bound = a / abs(a).max(), self.xp.norm_lower_bound
        by_column = (b * b).sum(0).max() > (b * b).sum(1).max()
        return self.xp.np.where(by_column, bound(a), bound(a.T))
