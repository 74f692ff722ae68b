"""The README's opening: what the grand comparison found and what it cannot tell, written from its rows.

python -m tests.opening        # writes it anew, between its marks in README.md
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from optbench.report.content import Content
from optbench.report.panels.optimizers import Overview
from optbench.report.selection import Selection
from optbench.report.standing import Standing
from optbench.store import Store
from optbench.wording import count, interval, listed, some

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "reports" / "grand" / "rows"
MARKS = "<!-- Written from reports/grand/rows by: python -m tests.opening -->", "<!-- End -->"
WITHIN = re.compile(f"(?<={re.escape(MARKS[0])}\n).*?(?={MARKS[1]})", re.DOTALL)


def content() -> Content:
    """What the report on the committed rows holds."""
    return Content.of(Selection(suite="grand", results=str(ROWS)), Store(ROWS))


def opening(found: Content) -> str:
    """What leads, how sure that is, what it costs, and what it cannot tell."""
    ranked = {
        kind.partition(" ")[0]: axes for kind, axes in found.kinds.items() if kind.endswith("real task")
    }
    steps = {schedule: axes["steps"] for schedule, axes in ranked.items()}
    first = next(iter(steps.values()))
    leaders = list(dict.fromkeys(standing.ranks["optimizer"].iloc[0] for standing in steps.values()))
    overview = Overview(found)
    cost = overview.header.index("cost")
    tasks = count(first.rows["problem"].nunique(), "real task")
    costs = listed([f"{overview.rows[name][cost].text} times as long with {plain(name)}" for name in leaders])
    sentences = [
        f"**What it found.** Of {len(first.ranks)} methods, tuned alike on {tasks}, these have the best mean rank "
        f"(1 is first; in brackets the 95 % interval over tasks): {listed([led(*each) for each in steps.items()])}.",
        f"With 95 % confidence the best over such tasks is {listed([sure(*each) for each in steps.items()])}.",
        f"A step takes {costs} as with the cheapest method; at equal time in place of equal steps the best mean ranks "
        f"are those of {listed([led(schedule, axes['seconds']) for schedule, axes in ranked.items()])}.",
        limits(found, [*steps.values()]),
    ]
    return (
        "\n".join(textwrap.wrap(" ".join(sentences), 120, break_long_words=False, break_on_hyphens=False))
        + "\n"
    )


def plain(name: str) -> str:
    """Without its options, which only switch weight decay off."""
    return name.partition("[")[0]


def led(schedule: str, standing: Standing) -> str:
    best = standing.ranks.iloc[0]
    rank = interval(best["rank"], best["low_tasks"], best["high_tasks"])
    return f"{plain(best['optimizer'])} under a {plain(schedule)} learning rate, {rank}"


def sure(schedule: str, standing: Standing) -> str:
    names = [plain(name) for name in standing.candidates]
    return f"one of {len(names)} under {plain(schedule)} ({some(names, 'or', 6)})"


def limits(found: Content, standings: list[Standing]) -> str:
    """The sizes that were run, and how many orders rest on a single task or method."""
    ran = found.newest[found.newest["parameters"].notna()]
    sizes, steps = ran["parameters"], ran["steps"]
    flips = count(sum(len(standing.flips) for standing in standings), "pair")
    return (
        f"**What it cannot tell.** Nothing is known beyond {sizes.min():,.0f} to {sizes.max():,.0f} parameters and "
        f"{steps.min()} to {steps.max():,} steps, nor with weight decay; leaving out one "
        f"task or one method would reverse the order of {flips}."
    )


def write() -> None:
    path = ROOT / "README.md"
    text = path.read_text()
    path.write_text(WITHIN.sub(lambda _: opening(content()), text))


if __name__ == "__main__":
    write()
