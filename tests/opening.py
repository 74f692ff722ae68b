"""The README's opening: what the grand comparison found and what it cannot tell, written from its rows.

python -m tests.opening        # writes it anew, between its marks in README.md
"""

from __future__ import annotations

import re
from pathlib import Path

from optbench.report.content import Content
from optbench.report.panels.optimizers import Overview
from optbench.report.selection import Selection
from optbench.report.standing import Standing
from optbench.store import Store
from optbench.wording import count, listed, some

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "reports" / "grand" / "rows"
MARKS = "<!-- Written from reports/grand/rows by: python -m tests.opening -->", "<!-- End -->"
WITHIN = re.compile(f"(?<={re.escape(MARKS[0])}\n).*?(?={MARKS[1]})", re.DOTALL)


def content() -> Content:
    """What the report on the committed rows holds."""
    return Content.of(Selection("grand", results=str(ROWS)), Store(ROWS))


def opening(found: Content) -> str:
    """What leads, how sure that is, what it costs, and what it cannot tell."""
    ranked = {
        kind.partition(" ")[0]: axes for kind, axes in found.kinds.items() if kind.endswith("real task")
    }
    first = next(iter(ranked.values()))["steps"]
    leaders = list(dict.fromkeys(axes["steps"].ranks["optimizer"].iloc[0] for axes in ranked.values()))
    costs = Overview(found).costs(first.ranked)
    sentences = [
        f"**{len(first.ranks)} methods, tuned alike on {count(first.rows['problem'].nunique(), 'real task')}: "
        f"{'; '.join(led(name, axes['steps']) for name, axes in ranked.items())}.**",
        f"{'; '.join(sure(name, axes['steps']) for name, axes in ranked.items())}.".capitalize(),
        "A step takes "
        + listed(
            [f"{costs[name][1].text} times as long as the cheapest method's with {name}" for name in leaders]
        )
        + "; "
        + listed([timed(name, axes["seconds"]) for name, axes in ranked.items()])
        + ".",
        limits(found, [axes["steps"] for axes in ranked.values()]),
    ]
    return "\n".join(sentences) + "\n"


def led(schedule: str, standing: Standing) -> str:
    best = standing.ranks.iloc[0]
    return (
        f"under a {schedule} schedule {best['optimizer']} has the best mean rank, {best['rank']:.2g} "
        f"(95 % interval over tasks {best['low_tasks']:.2g} to {best['high_tasks']:.2g})"
    )


def sure(schedule: str, standing: Standing) -> str:
    names = standing.candidates
    return f"with 95 % confidence the best under a {schedule} schedule is one of {len(names)} ({some(names, 'or', 8)})"


def timed(schedule: str, standing: Standing) -> str:
    best = standing.ranks.iloc[0]
    return f"in equal time {best['optimizer']} leads under a {schedule} schedule ({best['rank']:.2g})"


def limits(found: Content, standings: list[Standing]) -> str:
    """The sizes that were run, and how many orders rest on a single task or method."""
    ran = found.newest[found.newest["parameters"].notna()]
    sizes, steps = ran["parameters"], ran["steps"]
    flips = count(sum(len(standing.flips) for standing in standings), "order")
    return (
        f"It cannot tell what holds beyond {sizes.min():,.0f} to {sizes.max():,.0f} parameters and {steps.min()} to "
        f"{steps.max():,} steps, or with weight decay; {flips} of two methods would be reversed without one task or "
        "one other method."
    )


def write() -> None:
    path = ROOT / "README.md"
    text = path.read_text()
    path.write_text(WITHIN.sub(lambda _: opening(content()), text))


if __name__ == "__main__":
    write()
