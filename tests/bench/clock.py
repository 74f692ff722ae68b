"""Timing that means something on a shared machine: CPU time, short turns, contestants one after the other.

Seconds on a machine that others use too, or that its host slows down, mean little. Ratios mean something:
contestants take turns (A B C A B C ...), each turn takes at least `TURN` seconds of CPU time, and only turns of
the same round are compared.
"""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Mapping
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
    """CPU seconds of this process and, `elsewhere`, of contestants in others, without what was spent off the clock."""

    def __init__(self):
        self.away = self.elsewhere = 0.0

    def __call__(self):
        return self.busy() - self.away

    def busy(self):
        """CPU seconds on and off the clock."""
        return time.process_time() + self.elsewhere

    @contextlib.contextmanager
    def off(self):
        """Stop the clock."""
        begun = time.process_time()
        yield
        self.away += time.process_time() - begun


clock = Clock()
"""The one clock; pytest-benchmark reads it too."""


class Contestant(NamedTuple):
    """A call, how many units of work it does (steps of one lane), and how many bytes it takes."""

    call: Callable[[], Any]
    work: float
    bytes: float = math.nan


class Race(NamedTuple):
    """CPU seconds per unit of work of each contestant, by round; the first contestant is ours."""

    seconds: Mapping[str, list[float]]
    disturbed: bool

    def best(self, name):
        """The fastest turn; noise can only make a turn slower."""
        return min(self.seconds[name])

    def ratio(self, slow):
        """How many times faster ours is, by the best turn of each."""
        return self.best(slow) / self.best(next(iter(self.seconds)))

    def typical(self, slow):
        """The median over rounds of the ratio within a round."""
        pairs = zip(self.seconds[slow], next(iter(self.seconds.values())), strict=True)
        return statistics.median(a / b for a, b in pairs)


def seconds_of(call):
    """CPU seconds of one call; one before it only warms up."""
    call()
    begun = clock()
    call()
    return max(1e-6, clock() - begun)


def race(benchmark, contestants: Mapping[str, Contestant]) -> Race:
    """Let contestants take turns; the first is the one that pytest-benchmark records."""
    each = {name: seconds_of(contestant.call) for name, contestant in contestants.items()}
    calls = {name: round(max(TURN, *each.values()) / each[name]) for name in each}
    rounds = int(SPENT / sum(calls[name] * each[name] for name in each))
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    ours, *rivals = contestants

    def turn(name):
        call, work, _ = contestants[name]
        begun = clock()
        for _ in range(calls[name]):
            call()
        seconds[name].append((clock() - begun) / (calls[name] * work))

    def others():
        for name in rivals:
            turn(name)

    wall, cpu = time.perf_counter(), clock.busy()
    benchmark.pedantic(lambda: turn(ours), setup=others, rounds=min(max(rounds, ROUNDS), MOST_ROUNDS))
    slowed = (time.perf_counter() - wall) / (clock.busy() - cpu)
    benchmark.extra_info["microseconds_per_step"] = {name: 1e6 * min(seconds[name]) for name in contestants}
    return Race(seconds, slowed > DISTURBED)
