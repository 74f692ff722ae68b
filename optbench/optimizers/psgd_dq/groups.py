"""The preconditioners of psgd_torch, in either framework; the mathematics is on the pages of `psgd_dq`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from optbench.optimizers.lra import LowRank
from optbench.optimizers.psgd import BALANCE_PROBABILITY
from optbench.optimizers.psgd.groups import Factors, Group, WholeVector
from optbench.optimizers.psgd_dq import OF_P, factor_axes, squeezed
from optbench.protocol import Noise

ROWS = 32
"""Vectors of the subspace iteration that bounds a norm."""
ROTATIONS = 10
"""The most rotations that PRO4P takes at a step."""


class Sample(NamedTuple):
    """What one fit of one unit's factors sees."""

    name: str
    h: Any
    v: Any
    """None in whitening."""
    noise: Any
    """The normal draw that damps h."""
    normals: Mapping[str, Any]
    """What the group asked for in `likes`."""
    chosen: Mapping[str, Any]
    """Whether each choice of `chances` is taken."""


class TrackedGroup(Group):
    """A group whose steps are divided by tracked bounds, kept as "L" beside the factors."""

    own: ClassVar[str] = "dQ"

    def __init__(self, xp: Any, options: Mapping[str, Any]):
        super().__init__(xp, options)
        self.dQ: str = options["dQ"]
        self.lr, self.betaL = options["lr_preconditioner"], options["betaL"]

    def likes(self, name: str, unit: Any) -> dict[str, Any]:
        """Like what a fit of this unit draws beside its damping, by name."""
        return {}

    def chances(self, name: str, unit: Any) -> dict[str, float]:
        """The probability of each choice that a fit of this unit makes at random, by the name of its draw."""
        return {}

    def fit_all(self, factors: list[Factors], samples: list[Sample]) -> list[Factors]:
        return [self.fit_one(held, sample) for held, sample in zip(factors, samples, strict=True)]

    def fit_one(self, factors: Factors, given: Sample) -> Factors:
        raise NotImplementedError

    def tracked(self, L: Any, bound: Any) -> Any:
        """The bound after this step; it rises at once and falls slowly."""
        return self.xp.np.maximum(self.betaL * L + (1 - self.betaL) * bound, bound)


class Geometric(TrackedGroup):
    """Steps of one factor Q in the geometry dQ."""

    def scaled(self, factors: Factors, scale: Any) -> Factors:
        root = scale ** ((2 if self.dQ in OF_P else 1) / len(factors["Q"]))
        return {**factors, "Q": [root * q for q in factors["Q"]]}

    def p_times(self, qs: list[Any], x: Any) -> Any:
        """P x."""
        for axis, q in enumerate(qs):
            x = self.xp.times(q, x, axis)
            if self.dQ not in OF_P:
                x = self.xp.times(q.T if q.ndim == 2 else q, x, axis)
        return x

    def apply(self, factors: Factors, m: Any) -> Any:
        return self.p_times(factors["Q"], m)

    def turns(self, n: int, unit: Any) -> dict[str, Any]:
        """Like what the rotations of an n x n factor draw."""
        shapes = {"Q0.5EQ1.5": (ROWS, n), "PRO4P": (ROTATIONS, ROWS, n)}
        return {"turn": self.xp.empty(shapes[self.dQ], unit)} if self.dQ in shapes else {}

    def size(self, L: Any) -> Any:
        """The step size k."""
        return (self.lr / 2 if self.dQ == "QUAD" else self.lr) / L

    def moved(self, q: Any, left: Callable, right: Callable, turn: Any) -> Any:
        """Q after a step, with left(Q) = k E Q and right(Q) = k Q E."""
        if self.dQ == "QEQ":
            return q - right(q)
        q = q - left(q)
        if self.dQ in ("QUAD", "QUAD4P"):
            q = q - right(q)
            return q if q.ndim < 2 else (q + q.T) / 2
        if turn is None:
            return q
        if self.dQ == "Q0.5EQ1.5":
            return self.rotated(q, turn)
        symmetric = lambda q: abs(q.T - q).max() < 0.001 * abs(q).max()  # noqa: E731
        return self.xp.repeated(lambda q, i: self.rotated(q, turn[i]), q, ROTATIONS, symmetric)

    def rotated(self, q: Any, normal: Any) -> Any:
        """Q after a rotation towards a symmetric matrix of the largest trace."""
        np, tiny = self.xp.np, self.xp.np.finfo(q.dtype).tiny
        r = q.T - q
        r = r / (self.norm_bound(r, normal) + tiny)
        rq = r @ q
        rrq = r @ rq
        first, second = np.trace(rq), np.trace(rrq)
        if self.dQ == "Q0.5EQ1.5":
            a = np.where(second < 0, np.clip(-first / second, max=1 / 8), 1 / 8)
            return q + a * (rq + a / 2 * rrq)
        rrrq = r @ rrq
        third = np.trace(rrrq)
        a = (-second - np.sqrt(second * second - 1.5 * first * third)) / (0.75 * third)
        # Elsewhere Q is symmetric up to rounding.
        a = np.where((first > 0) & (third < 0), np.clip(a, max=1 / 3), 0)
        return q + a * (rq + a / 2 * (rrq + a / 4 * rrrq))

    def norm_bound(self, a: Any, normal: Any) -> Any:
        """A lower bound of the norm of a symmetric or skew matrix, by subspace iteration near its longest row."""
        np, norm = self.xp.np, self.xp.np.linalg.norm
        tiny = np.finfo(a.dtype).tiny
        scale = abs(a).max() + tiny
        a = a / scale
        row = a[norm(a, axis=1).argmax().reshape(1)]
        x = row + np.sign(normal @ row.T) * normal
        for _ in range(2):
            x = x @ a
            x = x / (norm(x, axis=1, keepdims=True) + tiny)
            x = x @ a
        return scale * norm(x, axis=1).max()


class Kronecker(Geometric):
    """A factor for each axis of each leaf."""

    own: ClassVar[str] = "dQ preconditioner_max_size preconditioner_max_skew"

    def __init__(self, xp: Any, options: Mapping[str, Any]):
        super().__init__(xp, options)
        self.limits = options["preconditioner_max_size"], options["preconditioner_max_skew"]

    def axes(self, unit: Any) -> list[tuple[int, bool]]:
        return factor_axes(tuple(unit.shape), *self.limits)

    def units(self, leaves: Sequence[Any]) -> list[Any]:
        common = self.xp.common
        return [self.xp.cast(leaf.reshape(squeezed(tuple(leaf.shape))), common([leaf])) for leaf in leaves]

    def init(self, unit: Any, noise: Noise) -> Factors:
        qs = [(self.xp.eye if dense else self.xp.ones)(n, unit) for n, dense in self.axes(unit)]
        return {"Q": qs, "L": [self.xp.np.zeros_like(q.reshape(-1)[0]) for q in qs]}

    def likes(self, name: str, unit: Any) -> dict[str, Any]:
        return {
            f"{what}.{name}.{axis}": like
            for axis, (n, dense) in enumerate(self.axes(unit))
            if dense
            for what, like in ({"bound": self.xp.empty((ROWS, n), unit)} | self.turns(n, unit)).items()
        }

    def chances(self, name: str, unit: Any) -> dict[str, float]:
        # One factor has nothing to balance; QEP scales its factors evenly before every fit.
        balances = len(unit.shape) > 1 and self.dQ != "QEP"
        return {f"balance_u.{name}": BALANCE_PROBABILITY} if balances else {}

    def fit_all(self, factors: list[Factors], samples: list[Sample]) -> list[Factors]:
        rows = [self.rows(held, sample) for held, sample in zip(factors, samples, strict=True)]
        moved = iter(self.xp.each(self.moved_factor, [row for each in rows for row in each]))
        made = []
        for each, sample in zip(rows, samples, strict=True):
            qs, Ls = zip(*(next(moved) for _ in each), strict=True)
            made.append({"Q": self.balanced(list(qs), sample), "L": list(Ls)})
        return made

    def rows(self, factors: Factors, given: Sample) -> list[tuple[Any, ...]]:
        """The arguments of `moved_factor` for each axis."""
        xp, h, v = self.xp, given.h, given.v
        qs = self.scaled_evenly(factors["Q"]) if self.dQ == "QEP" else factors["Q"]
        if self.dQ == "EQ":
            v = given.noise if v is None else v
            for axis, q in enumerate(qs):
                h, v = xp.times(q, h, axis), xp.divide(q, v, axis)
        else:
            h = self.p_times(qs, h)
        made = []
        for axis, (q, L) in enumerate(zip(qs, factors["L"], strict=True)):
            x, y, diagonal = h, v, q.ndim < 2
            if self.dQ == "QEP":
                x, y = xp.times(q, x, axis), None if y is None else xp.times(q, y, axis)
            if y is None:
                mean = xp.np.asarray(math.prod(h.shape) / len(q), dtype=h.dtype)
                t2 = mean * xp.gram(q, 0, diagonal) if self.dQ == "QEP" else mean
            else:
                t2 = xp.gram(y, axis, diagonal)
            drawn = (given.normals.get(f"{what}.{given.name}.{axis}") for what in ("bound", "turn"))
            made.append((q, L, xp.gram(x, axis, diagonal), t2, *drawn))
        return made

    def moved_factor(self, q: Any, L: Any, t1: Any, t2: Any, normal: Any, turn: Any) -> tuple[Any, Any]:
        """Q and L after a step; a single number T2 is times I."""
        if q.ndim < 2:
            e, bound = t1 - t2, (t1 + t2).max()
        elif t2.ndim:
            e, bound = t1 - t2, self.norm_bound(t1 + t2, normal)
        else:
            e, bound = t1 - t2 * self.xp.eye(len(q), q), self.norm_bound(t1, normal) + t2
        L = self.tracked(L, bound)
        e = self.size(L) * e
        if q.ndim < 2:
            return self.moved(q, lambda q: e * q, lambda q: q * e, None), L
        if self.dQ == "EQ":
            e = self.xp.np.triu(e)
        return self.moved(q, lambda q: e @ q, lambda q: q @ e, turn), L

    def balanced(self, qs: list[Any], given: Sample) -> list[Any]:
        due = given.chosen.get(f"balance_u.{given.name}")
        return qs if due is None else self.xp.branch(due, lambda: self.scaled_evenly(qs), lambda: qs)

    def scaled_evenly(self, qs: list[Any]) -> list[Any]:
        """The factors of a leaf with equal largest entries; one alone as it is."""
        if len(qs) == 1:
            return qs
        sizes = [abs(q).max() for q in qs]
        mean = self.xp.np.stack(sizes).prod() ** (1 / len(qs))
        return [q * (mean / size) for q, size in zip(qs, sizes, strict=True)]


class Dense(WholeVector, Geometric):
    """One matrix for all leaves as one vector."""

    def init(self, unit: Any, noise: Noise) -> Factors:
        return {"Q": [self.xp.eye(len(unit), unit)], "L": self.xp.np.zeros_like(unit[0])}

    def likes(self, name: str, unit: Any) -> dict[str, Any]:
        return self.turns(len(unit), unit)

    def fit_one(self, factors: Factors, given: Sample) -> Factors:
        xp, outer, (q,) = self.xp, self.xp.np.outer, factors["Q"]
        if self.dQ == "EQ":
            a, b = q @ given.h, xp.divide(q, given.v, 0)
        else:
            a, b = self.p_times([q], given.h), given.v
        if self.dQ == "QEP":
            a, b = q @ a, q @ b
        L = self.tracked(factors["L"], a @ a + b @ b)
        k = self.size(L)
        if self.dQ == "EQ":
            e = xp.np.triu(outer(k * a, a) - outer(k * b, b))
            left = lambda q: e @ q  # noqa: E731
        else:
            left = lambda q: outer(k * a, a @ q) - outer(k * b, b @ q)  # noqa: E731
        right = lambda q: outer(q @ a, k * a) - outer(q @ b, k * b)  # noqa: E731
        return {"Q": [self.moved(q, left, right, given.normals.get("turn"))], "L": L}


class TrackedLowRank(LowRank, TrackedGroup):
    """Q = (I + U V^T) diag(d); U, V [n, r], d [n]."""

    own: ClassVar[str] = "dQ rank_of_approximation"

    def init(self, unit: Any, noise: Noise) -> Factors:
        factors, np = super().init(unit, noise), self.xp.np
        even = {name: 0.1**0.5 * factors[name] / np.linalg.norm(factors[name]) for name in ("U", "V")}
        return {**factors, **even, "L": [np.zeros_like(unit[0]) for _ in range(3)]}

    def chances(self, name: str, unit: Any) -> dict[str, float]:
        return {"choose_u": 0.5}

    def fit_one(self, factors: Factors, given: Sample) -> Factors:
        h, v, d = given.h, given.noise if given.v is None else given.v, factors["d"][:, 0]
        U, V = self.evened(factors["U"], factors["V"])
        Lu, Lv, Ld = factors["L"]
        a, b, curved, flattened, small = self.products(h, v, U, V, d)
        p, q = curved * h, v * flattened
        Ld = self.tracked(Ld, abs(p).max() + abs(q).max())

        def left() -> tuple[Any, ...]:
            L = self.tracked(Lu, self.reach(a, b, V))
            return U - self.lr / L * self.left(a, b, V, small), V, L, Lv

        def right() -> tuple[Any, ...]:
            L = self.tracked(Lv, self.reach(a, b, U))
            return U, V - self.lr / L * self.right(a, b, U, V), Lu, L

        U, V, Lu, Lv = self.xp.branch(given.chosen["choose_u"], left, right)
        new_d = d - self.lr / Ld * (p - q) * d
        return {"U": U, "V": V, "d": new_d[:, None], "L": [Lu, Lv, Ld]}

    def evened(self, U: Any, V: Any) -> tuple[Any, Any]:
        """U and V of equal norms, and nearer to U^T U = V^T V."""
        np, uu, vv = self.xp.np, U.T @ U, V.T @ V
        ratio = (np.trace(uu) / np.trace(vv)) ** 0.25
        uu, vv = uu / (ratio * ratio), vv * (ratio * ratio)
        e = 0.1 * (uu - vv) / (np.trace(uu) + np.trace(vv))
        U, V, half = U / ratio, V * ratio, e @ e / 2
        return U - U @ (e - half), V + V @ (e + half)
