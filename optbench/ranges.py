"""The check of numbers passed to a standalone optimizer: a ValueError that names field, value and range."""

from __future__ import annotations

from numbers import Real
from typing import Any

from optbench.fields import Bounds


def require(owner: str, bounds: str, **given: Any) -> None:
    """Raise a ValueError unless every given number lies inside `bounds`, written as `[0, 1)`.

    Arrays and traced numbers pass: their value may not be known yet.
    """
    for name, value in given.items():
        if hasattr(value, "dtype") and not isinstance(value, Real):
            continue
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError(f"{owner}: {name}={value!r} is not a number; it must lie in {bounds}")
        if not Bounds(bounds).holds(float(value)):
            raise ValueError(f"{owner}: {name}={value!r} is outside {bounds}")


def is_off(value: Any) -> bool:
    """Whether a number is known to be 0, so that what it scales need not exist; a traced one is not."""
    return isinstance(value, Real) and value == 0
