"""Ratios of CPU seconds: alternatives run in turn in one process, so that a disturbance meets them all."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any


def interleaved(cases: Mapping[str, Callable[[int], Any]], steps: int, rounds: int) -> dict[str, float]:
    """Least CPU seconds a step of each case, over `rounds` in which every case runs `steps` steps."""
    seconds = dict.fromkeys(cases, math.inf)
    for run in cases.values():
        run(steps)  # compiles
    for _ in range(rounds):
        for name, run in cases.items():
            begun = time.process_time()
            run(steps)
            seconds[name] = min(seconds[name], (time.process_time() - begun) / steps)
    return seconds
