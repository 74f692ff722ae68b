"""The small problem of the checks, written once for both frameworks."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Shapes = Mapping[str, tuple[int, ...]]
Points = Mapping[str, np.ndarray]
Path = Sequence[Points]
"""The parameters after each step."""
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
    return {k: generator(f"batch/{k}").standard_normal((ROWS, *shape)) / 2 for k, shape in shapes.items()}


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


def worded(shapes: Shapes) -> str:
    return " and ".join(str(list(shape)) for shape in shapes.values())


def steps_well(what: str, first: np.ndarray, last: np.ndarray, moves: bool = True) -> None:
    """A parameter after four steps is finite, and has moved where its dtype can show it."""
    shape = list(first.shape)
    assert np.isfinite(last).all(), f"{what}: a parameter {shape} is not finite after 4 steps."
    moved = not np.array_equal(last, first)
    assert moved or not moves or 0 in shape, f"{what}: a parameter {shape} never moves."


def steps_in(dtype: str, last: Points, steps: int, dead: str) -> str:
    """What a path left whose gradients are zero for the parameter `dead`, where squares and eps may round to 0."""
    for name, value in last.items():
        where = " with a gradient of 0" if name == dead else ""
        finite = np.isfinite(value).all()
        assert finite, f"In {dtype}, {list(value.shape)} is not finite after {steps} steps{where}."
    return f"It steps parameters in {dtype}, which stay in it."


def spiked(last: Points) -> str:
    """What a spike of the gradient left of the parameters."""
    for value in last.values():
        finite = np.isfinite(value).all()
        assert finite, f"One gradient that is 1e6 times as large, and {list(value.shape)} is not finite."
    return "One gradient that is 1e6 times as large leaves it finite."


def survived(after: Points, last: Points) -> str:
    """After a NaN, and later: it may spread, but must not freeze a parameter that looks healthy."""
    for name, value in last.items():
        assert not np.isfinite(value).all() or not np.array_equal(after[name], value), (
            f"After one gradient that is NaN a parameter {list(value.shape)} looks healthy and never moves again."
        )
    ill = not all(np.isfinite(value).all() for value in last.values())
    return f"One gradient that is NaN {'shows in parameters' if ill else 'is survived'}."


def as_alone(where: str, one: str, alone: Path, found: Path, growths: Iterable[float], coupled: bool) -> None:
    """Whether a path goes as on one device or process; `coupled`: relative to the largest entry of all parameters."""
    # The smallest that shows it: the first step, and the first leaf of it.
    for t, growth in enumerate(growths):
        for name, value in alone[t].items():
            point = alone[t] if coupled else {name: value}
            gap = apart(point, {**point, name: found[t][name]})
            assert gap <= 10 * growth, (
                f"{where} {list(value.shape)} is {gap:.1e} from one {one} after step {t + 1}; "
                f"rounding carries a path {growth:.1e}."
            )


def resumed(many: str, few: int, whole: Points, again: Points, growth: float, warm: int, more: int) -> str:
    """Whether a path that was saved and loaded ends where the whole one does, as far as rounding lets it."""
    gap = apart(whole, again)
    assert gap <= 10 * growth, (
        f"Saved on {many} after {warm} steps and loaded on {few}, it is {gap:.1e} off after {more} more; "
        f"rounding carries a path {growth:.1e}."
    )
    return f"Saved on {many} and loaded on {few} it goes on as it was."


def in_the_plane(first: np.ndarray, last: np.ndarray, parts: float, turned: float, most: float) -> str:
    """Where a complex parameter went, and how far that is from its parts and from itself turned."""
    assert np.isfinite(last).all(), "A complex parameter [3, 2] is not finite after 5 steps."
    assert not np.array_equal(last, first), "A complex parameter [3, 2] never moves."
    assert min(parts, turned) < most, (
        f"A complex parameter [3, 2] goes another way than its parts ({parts:.1e}) and than itself turned by 90 "
        f"degrees ({turned:.1e}): its squares are taken as z^2."
    )
    return "Complex parameters go as their parts do." if parts < most else "Complex parameters may be turned."


def apart(one: Points, other: Points) -> float:
    """The largest distance of two points, relative to the largest entry of the first; NaN where one is."""

    def largest(values: Iterable[np.ndarray]) -> float:
        return float(np.max([np.abs(value).max(initial=0.0) for value in values], initial=0.0))

    return largest(one[name] - other[name] for name in one) / (largest(one.values()) or 1.0)
