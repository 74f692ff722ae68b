"""Ratios of CPU seconds: alternatives run in turn in one process, so that a disturbance meets them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def interleaved(cases: Mapping[str, Callable[[int], Any]], steps: int, rounds: int) -> dict[str, float]:
    """Median CPU seconds a step of each case, over `rounds` in which every case runs `steps` steps."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for run in cases.values():
        run(steps)  # compiles
    for _ in range(rounds):
        for name, run in cases.items():
            begun = time.process_time()
            run(steps)
            seconds[name].append((time.process_time() - begun) / steps)
    return {name: float(np.median(values)) for name, values in seconds.items()}
