"""What measures: functions from JSON to JSON that run in a worker, or that read the rows of stored runs."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def apart(found: Any, want: np.ndarray) -> float:
    """The largest distance of an entry from the wanted one, relative to the largest of those."""
    return float(np.abs(found - want).max() / np.abs(want).max())


def interleaved(cases: Mapping[str, Callable[[int], Any]], steps: int, rounds: int) -> dict[str, float]:
    """Least CPU microseconds a step of each case, over `rounds` in which every case runs `steps` steps.

    They run in turn in one process, so that a disturbance meets them all.
    """
    seconds = dict.fromkeys(cases, math.inf)
    for run in cases.values():
        run(steps)  # compiles
    for _ in range(rounds):
        for name, run in cases.items():
            begun = time.process_time()
            run(steps)
            seconds[name] = min(seconds[name], (time.process_time() - begun) / steps)
    return {name: 1e6 * least for name, least in seconds.items()}
