"""What the matrix groups of XMat, LRA and Affine share, written once for both frameworks.

`xp` is a module, `psgd.jax_arrays` or `psgd.torch_arrays`: `xp.np` is jax.numpy or torch, and its functions are what
the two have by different names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
        ...

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
        pairs = zip(parts, like, strict=True)
        return [self.xp.cast(part.reshape(leaf.shape), leaf.dtype) for part, leaf in pairs]

    def probe(self, noise: Noise, step: Any, likes: Mapping[str, Any]) -> list[Any]:
        return self.units(list(normals(noise, "probe", step, likes).values()))


def first_scale(h: Any, v: Any, given: Any) -> Any:
    """The scale that makes the first direction Q^T Q h about as long as it should be."""
    if given is not None:
        return given
    return ((math.prod(h.shape) if v is None else (v * v).sum()) / (h * h).sum()) ** 0.25
