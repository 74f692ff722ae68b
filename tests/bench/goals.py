"""The goal table: what was wanted, what was measured, held or not."""

from typing import NamedTuple

from optbench.wording import columns
from tests.bench.clock import DISTURBED

LOOPS = ("scan", "vmap")
"""The hand-written loops whose ratios stand beside the one that the goal is about."""

NOTE = f"""\
naive: a jitted optax step called from Python with float(loss). scan: a lax.scan written by hand, one
lane. vmap: that scan under vmap, all lanes. Ratios are of CPU time on one core: of the best turns,
and in brackets the median over rounds of turns taken one after the other. ~ took more than {DISTURBED:g}
times as long by the wall clock (a command: others took a tenth of the machine): a number near its
goal then means little. Run it again on a quiet machine."""


class Waited(NamedTuple):
    """Seconds by the wall clock, whether others computed meanwhile, and seconds of CPU where they are known."""

    wall: float
    disturbed: bool
    cpu: float | None = None


class Goals:
    """The rows of one run, in the order in which they were measured."""

    def __init__(self):
        self.rows = []

    def add(self, what, wanted, measured, held, beside=("", "")):
        self.rows.append((what, wanted, measured, *beside, "yes" if held else "NO"))

    def faster(self, what, race, than, least):
        """The race's first contestant is at least `least` times faster than another one."""
        beside = (times(race.ratio(name)) if name in race.seconds else "" for name in LOOPS)
        self.add(what, f">= {least:.3g}x {than}", measured(race, than), race.ratio(than) >= least, beside)

    def costs(self, what, race, other, most):
        """Another contestant takes at most `most` times as long as the first."""
        self.add(what, f"<= {most:g}x", measured(race, other), race.ratio(other) <= most)

    def at_most(self, what, value, most, unit):
        self.add(what, f"<= {most:g}{unit}", f"{value:.3g}{unit}", value <= most)

    def at_least(self, what, value, least, unit):
        self.add(what, f">= {least:g}{unit}", f"{value:.3g}{unit}", value >= least)

    def waited(self, what, found: Waited, most):
        used = "" if found.cpu is None else f" ({found.cpu:.3g} s CPU)"
        self.add(
            what, f"< {most:g} s", f"{found.wall:.3g} s{used}" + "~" * found.disturbed, found.wall < most
        )

    def table(self):
        """Text of at most 100 columns."""
        head, *lines = columns([("goal", "wanted", "measured", *LOOPS, "held"), *self.rows]).splitlines()
        held = sum(row[-1] == "yes" for row in self.rows)
        rule = "-" * max(map(len, [head, *lines]))
        return "\n".join([head, rule, *lines, "", f"{held} of {len(lines)} goals held.", NOTE])


def measured(race, other):
    """The ratio of the best turns, the median in brackets, and a mark if others ran on this core."""
    return f"{times(race.ratio(other))} ({times(race.typical(other))})" + "~" * race.disturbed


def times(ratio):
    return f"{ratio:.0f}x" if ratio >= 100 else f"{ratio:.3g}x"
