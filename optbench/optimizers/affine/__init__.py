"""PSGD Affine: whitening each leaf as a matrix, with a triangular or diagonal factor on either side.

A leaf G is seen as a matrix [m, n], as square as its axes allow, with Q = (Q_l, Q_r). One step of the fit:

    A = Q_l H Q_r^T                          H = g in whitening,  the Hessian times V in Hessian mode
    B = Q_l^-T V Q_r^-1                      V ~ N(0, I);  in whitening integrated out where that is cheap
    Q_l <- Q_l - k tri(A A^T - B B^T) Q_l    k = precond_lr / |A A^T + B B^T|   ('1st': / |A A^T - B B^T|)
    Q_r <- Q_r - k tri(A^T A - B^T B) Q_r    likewise
    u = Q_l^T Q_l M Q_r^T Q_r                M: bias-corrected momentum, or Nesterov's
    theta <- theta - learning_rate (u + weight_decay theta)

A side is diagonal when it has one entry, more than max_size_triangular, or more than max_skew_triangular
times those of the other side; a vector of 2 to 128 entries gets a triangular factor.

State: for each leaf m^2 or m, n^2 or n, and m n of momentum.

With step_normalizer_order='1st' a side of one entry starts with A A^T = B B^T up to rounding, so its first
step is 0 or +-precond_lr by chance.

Source: Xi-Lin Li, Preconditioned Stochastic Gradient Descent, arXiv:1512.04202; Preconditioner on Matrix
Lie Group for SGD, arXiv:1809.10232; package psgd-jax 0.2.9.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from optbench.fields import hyper
from optbench.optimizers.adapter import declared, size
from optbench.optimizers.psgd import BALANCE_PROBABILITY, GroupOptimizer
from optbench.optimizers.psgd.groups import Factors, Fit, Group
from optbench.protocol import Noise, Shapes, normals


class Matricized(NamedTuple):
    """How a leaf is seen as a matrix: its axes permuted, then the first ones made rows."""

    axes: tuple[int, ...]
    rows: int
    columns: int


class Sides(NamedTuple):
    """The limits beyond which a side is diagonal."""

    max_size_triangular: int
    max_skew_triangular: float

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Sides:
        return cls(*(options[name] for name in cls._fields))

    def triangular(self, size: int, other: int) -> bool:
        return 2 <= size <= min(self.max_size_triangular, self.max_skew_triangular * other)

    def integrates(self, m: int, n: int) -> bool:
        """Whether whitening integrates the probe out of an [m, n] leaf instead of drawing one."""
        left, right = self.triangular(m, n), self.triangular(n, m)
        return not (left or right) or (right and not left and m >= n) or (left and not right and n >= m)


@functools.cache
def matricized(shape: tuple[int, ...]) -> Matricized:
    """The permutation and cut with the least rows^2 + columns^2, the lexicographically first of equals."""
    if len(shape) < 2:
        return Matricized(tuple(range(len(shape))), 1, math.prod(shape))
    if len(shape) == 2:
        return Matricized((0, 1), *shape)
    every, found = range(len(shape)), []
    for count in range(1, len(shape)):
        for chosen in itertools.combinations(every, count):
            axes = chosen + tuple(i for i in every if i not in chosen)
            rows = math.prod(shape[i] for i in chosen)
            columns = math.prod(shape) // rows if rows else 0
            found.append((rows**2 + columns**2, axes, count, Matricized(axes, rows, columns)))
    return min(found)[-1]


@declared
class Affine(GroupOptimizer):
    __doc__ = __doc__
    source: ClassVar[str] = "arXiv:1512.04202, arXiv:1809.10232; psgd-jax 0.2.9"
    memory: ClassVar[str] = "n + for each leaf m^2 or m, and n^2 or n, of its matrix [m, n]"

    max_size_triangular: int = hyper(4096, "a larger side is diagonal", bounds="[0, inf)")
    max_skew_triangular: float = hyper(
        128, "a side that is this many times the other is diagonal", bounds="(0, inf)"
    )

    def factors(self, shapes: Shapes) -> list[tuple[int, bool]]:
        """The size of each side, and whether its factor is triangular."""
        sides = Sides.of(self.options())
        views = [matricized(tuple(shape)) for shape in shapes.values()]
        pairs = [pair for _, m, n in views for pair in ((m, n), (n, m))]
        return [(one, sides.triangular(one, other)) for one, other in pairs]

    def state_floats(self, shapes: Shapes) -> int:
        factors = sum(n * n if triangular else n for n, triangular in self.factors(shapes))
        return factors + (self.b1 > 0) * size(shapes)

    def vectorizes(self, shapes: Shapes) -> bool:
        """Not where a triangular solve would be batched: that stands still on XLA's CPU thread pool."""
        return not any(triangular for _, triangular in self.factors(shapes))


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
