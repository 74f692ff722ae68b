"""What the matrix groups of XMat, LRA and Affine share, written once for both frameworks.

`xp` is a module, `psgd.jax_arrays` or `psgd.torch_arrays`: `xp.np` is jax.numpy or torch, and its functions are what
the two have by different names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from optbench.protocol import Noise, normals

Factors = dict[str, Any]


class Fit(NamedTuple):
    """The arguments of one fit of one unit's factors."""

    h: Any
    v: Any
    """None where the method integrates the probe out."""
    lr: Any
    second_order: bool
    """Whether the step is divided by a bound of the second derivative, or by that of the gradient."""
    uniform: Callable[[str], Any]
    """A draw from [0, 1) of this unit at this step, by name."""


class Group(Protocol):
    """How leaves split into units, and how a unit's factors are made, fitted and applied.

    A unit is what has factors of its own: all leaves as one vector, or one leaf as a matrix, in float32 at least.
    """

    own: ClassVar[str] = ""
    """The names of the options that only this group has."""
    whole: ClassVar[bool] = False
    """Whether all leaves are one unit."""
    uniforms: ClassVar[tuple[str, ...]] = ()
    """The names of what a fit of a unit draws from [0, 1)."""
    xp: Any

    def __init__(self, xp: Any, options: Mapping[str, Any]):
        self.xp = xp

    def units(self, leaves: Sequence[Any]) -> list[Any]: ...

    def restore(self, units: list[Any], like: Sequence[Any]) -> list[Any]:
        """The leaves back from their units, with the dtypes of `like`."""
        pairs = zip(units, like, strict=True)
        return [self.xp.cast(unit.reshape(leaf.shape), leaf.dtype) for unit, leaf in pairs]

    def probe(self, noise: Noise, step: Any, likes: Mapping[str, Any]) -> list[Any]:
        """What whitening draws: an array for each unit, or None where it needs none."""
        ...

    def init(self, unit: Any, noise: Noise) -> Factors:
        """The identity, or near it."""
        ...

    def scaled(self, factors: Factors, scale: Any) -> Factors:
        """Q times a number, before the first fit."""
        ...

    def fit(self, factors: Factors, given: Fit) -> Factors:
        """One relative gradient step of the factors, all from the old ones."""
        ...

    def apply(self, factors: Factors, m: Any) -> Any:
        """Q^T Q m."""
        ...


class WholeVector(Group):
    """All leaves as one vector, in leaf order; draws are `probe.<leaf>`."""

    whole: ClassVar[bool] = True

    def units(self, leaves: Sequence[Any]) -> list[Any]:
        dtype = self.xp.common(leaves)
        return [self.xp.np.concatenate([self.xp.cast(leaf.reshape(-1), dtype) for leaf in leaves])]

    def restore(self, units: list[Any], like: Sequence[Any]) -> list[Any]:
        parts = self.xp.split(units[0], [math.prod(leaf.shape) for leaf in like])
        return super().restore([*parts], like)

    def probe(self, noise: Noise, step: Any, likes: Mapping[str, Any]) -> list[Any]:
        return self.units(list(normals(noise, "probe", step, likes).values()))


def refitted(
    group: Group, options: Any, units: Iterable[tuple[Any, ...]], lr: Any, whitens: bool, is_first: Any
) -> Iterator[tuple[Factors, Any]]:
    """The factors of each unit after a fit, and whether they have their first scale; Python reads no number.

    `units` have their factors, whether those are scaled, h, v, and the unit's draws from [0, 1). One without gradient
    is fitted with a step of 0; not so with `upstream`.
    """
    xp, upstream = group.xp, options.upstream is not None
    for factors, scaled, h, v, uniform in units:
        alive = is_alive(xp.np, h) | upstream
        due = alive & (is_first if upstream else ~scaled)
        scale = options.precond_init_scale
        if scale is None:
            # It makes the first direction Q^T Q h about as long as it should be.
            scale = ((math.prod(h.shape) if whitens else (v * v).sum()) / (h * h).sum()) ** 0.25
        factors = group.scaled(factors, xp.chosen(due, scale, 1, h))
        given = Fit(h, v, xp.chosen(alive, lr, 0, h), options.step_normalizer_order == "2nd", uniform)
        yield group.fit(factors, given), scaled | due


def is_alive(np: Any, h: Any) -> Any:
    """Whether the mean size of h is above the root of the smallest number, so that its squares are numbers.

    A unit without gradient says nothing about its curvature: fitted all the same, Q would grow at each
    step until Q^2 overflows when the gradient comes back. `np` is jax.numpy or torch.
    """
    return abs(h).mean() > np.finfo(h.dtype).tiny ** 0.5
