"""The small problem of the checks, written once for both frameworks."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

Shapes = Mapping[str, tuple[int, ...]]
Weight = Callable[[str, int], float | None]
"""The weight of a leaf's loss at a step: 0 gives no gradient, NaN one that is none; None leaves it out."""

ROWS = 8
"""Batches, which are gone through in turn."""
PAIR: Shapes = {"b": (2,), "w": (3, 2)}


def evenly(name: str, t: int) -> float:
    return 1.0


def generator(text: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(text.encode()))


def first(shapes: Shapes) -> dict[str, np.ndarray]:
    return {name: generator(f"first/{name}").standard_normal(shape) for name, shape in shapes.items()}


def batches(shapes: Shapes) -> dict[str, np.ndarray]:
    """What each step pulls towards, so that no gradient fades into rounding: [ROWS, ...] for each leaf."""
    return {
        name: generator(f"batch/{name}").standard_normal((ROWS, *shape)) / 2 for name, shape in shapes.items()
    }


def leaf_loss(p: Any, batch: Any) -> Any:
    """Sum of (p - batch)^2 / 2 + batch p / sqrt(1 + p^2) / 4 of a leaf: curved, and no steeper far away."""
    moved = p - batch
    return (moved * moved / 2 + batch * p * (1 + p * p) ** -0.5 / 4).sum()


def signs(name: str, t: int, shape: tuple[int, ...]) -> np.ndarray:
    """+-1, for the twin of a path."""
    return np.sign(generator(f"sign/{name}/{t}").standard_normal(shape))


SELDOM = ((1,), (), (0,), (0, 3), (1, 5), (5, 1), (2, 1, 3, 1, 2), (7, 3))
ODD: tuple[Shapes, ...] = (*({"w": shape} for shape in SELDOM), dict(zip("abcdefgh", SELDOM, strict=True)))
"""Shapes that are seldom, the smallest first; at last all together."""
SILENT: Shapes = {"none": (2, 2), "some": (2, 2), "zero": (2, 2)}


def worded(shapes: Shapes) -> str:
    return " and ".join(str(list(shape)) for shape in shapes.values())


def silent(name: str, t: int) -> float | None:
    """No gradient for `none`, zeros for `zero`, for 2,000 steps."""
    return 1.0 if t >= 2000 or name == "some" else 0.0 if name == "zero" else None


def one_step(step: int, weight: float) -> Weight:
    """Another weight at one step."""
    return lambda name, t: weight if t == step else 1.0


def spiked(seen: Mapping[str, np.ndarray]) -> str:
    """What a spike of the gradient left of the parameters `PAIR`."""
    for name, shape in PAIR.items():
        assert np.isfinite(seen[name]).all(), (
            f"One gradient that is 1e6 times as large, and {list(shape)} is not finite."
        )
    return "One gradient that is 1e6 times as large leaves it finite."


def in_the_plane(first: np.ndarray, last: np.ndarray, parts: float, turned: float, most: float) -> str:
    """Where a complex parameter went, and how far that is from its parts and from itself turned."""
    assert np.isfinite(last).all(), "A complex parameter [3, 2] is not finite after 5 steps."
    assert not np.array_equal(last, first), "A complex parameter [3, 2] never moves."
    assert min(parts, turned) < most, (
        f"A complex parameter [3, 2] goes another way than its parts ({parts:.1e}) and than itself turned by 90 "
        f"degrees ({turned:.1e}): its squares are taken as z^2."
    )
    return "Complex parameters go as their parts do." if parts < most else "Complex parameters may be turned."


def apart(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """The largest distance of two points, relative to the largest entry of the first; NaN where one is."""

    def largest(values: Iterable[np.ndarray]) -> float:
        return float(np.max([np.abs(value).max(initial=0.0) for value in values], initial=0.0))

    return largest(one[name] - other[name] for name in one) / (largest(one.values()) or 1.0)
