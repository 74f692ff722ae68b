"""What the page's script compares and names: each optimizer's seeds on each problem, and what computes its points."""

from __future__ import annotations

from typing import Any

from optbench.report.charts import short, shorts
from optbench.report.content import Content
from optbench.stats.paired import quantile
from optbench.stats.verdict import Verdict, measured


def of_problems(content: Content) -> list[dict[str, Any]]:
    """For each problem what is compared on it; for each optimizer, by its place, `at`.

    `at` has the text of the compared number, `seeds`: the number that the paired test takes, by seed, and the command
    that computes the row. A learning rate is added to that command only where the command runs a plain grid.
    """
    commands = content.summary.set_index(["problem", "optimizer"])["command"]
    best = content.standings["steps"].best
    seeds = best.assign(compared=best["compared"]).groupby(["problem", "optimizer"], sort=False)
    numbers = {
        key: dict(zip(rows["seed"].astype(str), shorts(rows["compared"]), strict=True)) for key, rows in seeds
    }

    def rows(verdict: Verdict) -> dict[int, dict[str, Any]]:
        return {
            content.places[row["optimizer"]]: {
                "text": measured(row, brief=True), "seeds": numbers[verdict.name, row["optimizer"]],
                "command": commands[verdict.name, row["optimizer"]],
            }
            for row in verdict.rows
        }  # fmt: skip

    return [
        {
            "name": verdict.name, "toy": verdict.question.toy, "compared": verdict.compared, "staged": content.staged,
            "exact": not verdict.question.seeded, "at": rows(verdict),
        }
        for verdict in content.verdicts
    ]  # fmt: skip


def quantiles(content: Content) -> list[float | None]:
    """Student's t at the level of every test, by the number of pairs; nothing for fewer than two."""
    most = int(content.summary["seeds"].max())
    return [None, None, *(short(quantile(count)) for count in range(2, most + 1))]
