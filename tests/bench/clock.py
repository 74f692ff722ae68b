"""Timing that means something on a shared machine: CPU time, short turns, contestants one after the other.

A machine that others use too, or that its host slows down, has no seconds to speak of. What can be told is a
ratio: contestants take turns (A B C A B C ...), each turn at least `TURN` seconds of CPU time, and only turns of
the same round are compared.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

TURN = 0.02
"""CPU seconds that one turn lasts at least; turns of all contestants are as long as the longest call."""
ROUNDS, MOST_ROUNDS = 8, 48
"""Turns of each contestant, at least and at most."""
SPENT = 1.5
"""CPU seconds that a race of short turns goes on for: one lucky turn is enough, and there are more of them."""
DISTURBED = 1.2
"""Wall over CPU seconds above which something else ran on this core meanwhile."""


class Clock:
    """CPU seconds of this process and of those that it lets take turns, without what was spent off the clock."""

    def __init__(self) -> None:
        self.away = self.elsewhere = 0.0

    def __call__(self) -> float:
        return self.busy() - self.away

    def busy(self) -> float:
        """CPU seconds on and off the clock."""
        return time.process_time() + self.elsewhere

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Stop the clock."""
        begun = time.process_time()
        yield
        self.away += time.process_time() - begun

    def add(self, seconds: float) -> None:
        """Count what another process has spent."""
        self.elsewhere += seconds


clock = Clock()
"""The one clock; pytest-benchmark reads it too."""


class Contestant(NamedTuple):
    """A call, how many units of work it does (steps of one lane), and how many bytes it takes."""

    call: Callable[[], Any]
    work: float
    bytes: float = math.nan


@dataclass(frozen=True)
class Race:
    """CPU seconds per unit of work of each contestant, by round; the first contestant is ours."""

    seconds: Mapping[str, list[float]]
    disturbed: bool

    @property
    def ours(self) -> str:
        """The first contestant."""
        return next(iter(self.seconds))

    def best(self, name: str) -> float:
        """The fastest turn; noise can only make a turn slower."""
        return min(self.seconds[name])

    def ratio(self, slow: str) -> float:
        """How many times faster ours is, by the best turn of each."""
        return self.best(slow) / self.best(self.ours)

    def typical(self, slow: str) -> float:
        """The median over rounds of the ratio within a round."""
        pairs = zip(self.seconds[slow], self.seconds[self.ours], strict=True)
        return statistics.median(a / b for a, b in pairs)


def seconds_of(call: Callable[[], Any]) -> float:
    """CPU seconds of one call; one before it only warms up."""
    call()
    begun = clock()
    call()
    return max(1e-6, clock() - begun)


def race(benchmark: Any, contestants: Mapping[str, Contestant]) -> Race:
    """Let contestants take turns; the first is the one that pytest-benchmark records."""
    each = {name: seconds_of(contestant.call) for name, contestant in contestants.items()}
    calls = {name: round(max(TURN, *each.values()) / each[name]) for name in each}
    rounds = int(SPENT / sum(calls[name] * each[name] for name in each))
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    ours, *rivals = contestants

    def turn(name: str) -> None:
        call, work, _ = contestants[name]
        begun = clock()
        for _ in range(calls[name]):
            call()
        seconds[name].append((clock() - begun) / (calls[name] * work))

    def others() -> None:
        for name in rivals:
            turn(name)

    wall, cpu = time.perf_counter(), clock.busy()
    benchmark.pedantic(lambda: turn(ours), setup=others, rounds=min(max(rounds, ROUNDS), MOST_ROUNDS))
    slowed = (time.perf_counter() - wall) / (clock.busy() - cpu)
    benchmark.extra_info["microseconds_per_step"] = {name: 1e6 * min(seconds[name]) for name in contestants}
    return Race(seconds, slowed > DISTURBED)
