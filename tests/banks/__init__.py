"""Final losses of real runs over many seeds, from which tests/test_try.py draws: see __main__.py."""

from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "losses.npz"


def banks() -> dict[str, dict[str, np.ndarray]]:
    """log10 of the final loss of each seed, by task and optimizer; equal places are equal seeds."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(FILE) as arrays:
        for name, values in arrays.items():
            task, _, optimizer = name.partition("|")
            found.setdefault(task, {})[optimizer] = values.astype(float)
    return found
