"""What runs cost, what each optimizer's budget was, and what failed."""

from __future__ import annotations

from typing import Any

import pandas as pd

from optbench.cell import Status
from optbench.report import caveats
from optbench.report.charts import FARTHEST, NARROWEST, scale, short
from optbench.report.content import Content
from optbench.report.panels.optimizers import geometric_mean, relative_cost
from optbench.report.parts import Bullets, Chart, Charts, Details, Part, Table, Text
from optbench.stats import Frame
from optbench.stats.settings import labels
from optbench.wording import count, number, spoken

MEMORY = ("lane", "program", "peak")
"""The sizes that are shown, as `stats.costs.memory` names them."""

FAR = 1e3
"""How many times the median a result may be to have a place on its axis."""


def cost(content: Content) -> list[Part]:
    note = (
        "Result against cost: lower and farther left is better. The dashed line joins those that no other beats in "
        "both; seconds are those of one lane, without compilation and evaluation."
    )
    budget = Details("Budget of each optimizer", [budgets(content)])
    runs = (against_seconds(content, place) for place in range(len(content.problems)))
    charts = [*ranks_against(content), *runs]
    return [Charts(note, [chart for chart in charts if chart.data["points"]], 3), costs(content), budget]


def ranks_against(content: Content) -> list[Chart]:
    """The mean rank against time and state, both relative to the least, over the tasks that are ranked."""
    standing = content.standings["steps"]
    if standing.refusals:
        return []
    table = content.summary[content.summary["problem"].isin(standing.rows["problem"])]
    table = table.assign(cost=relative_cost(table))
    time, state = "time of a step over the cheapest's", "state per parameter, and 1"
    sizes = {
        time: ("against time", table.groupby("optimizer")["cost"].agg(geometric_mean)),
        state: ("against memory", 1 + table.groupby("optimizer")["state"].median()),
    }
    ranks = standing.ranks.assign(low=standing.ranks["low_tasks"], high=standing.ranks["high_tasks"])
    return [
        Chart(
            f"Mean rank, {standing.kind}s", "pareto",
            points(content, ranks, "rank", size) | {"x": name, "label": label}, label, of=standing.kind,
        )
        for name, (label, size) in sizes.items()
    ]  # fmt: skip


def against_seconds(content: Content, place: int) -> Chart:
    problem = content.problems[place]
    rows = content.summary[content.summary["problem"] == problem.name]
    rows = rows.rename(columns={"score_low": "low", "score_high": "high"})
    seconds = rows.set_index("optimizer")["microseconds"] * 1e-6 * rows["steps"].iloc[0]
    shown = points(content, rows, "score", seconds)
    shown["points"] = [point for point in shown["points"] if FARTHEST[0] < point["y"] < FARTHEST[1]]
    values = sorted(point["y"] for point in shown["points"]) or [0.1]
    top = min(values[-1], FAR * values[len(values) // 2])  # what is worse lies at the upper end
    ends = values[0], max(values[0] * NARROWEST, top)
    label = f"final {spoken(problem.question.score)}"
    more = {"x": "seconds of a run", "label": label, "scale": scale(problem.question.score, *ends)}
    return Chart(problem.name, "pareto", shown | more, label, place)


def points(content: Content, rows: Frame, y: str, x: Frame) -> dict[str, Any]:
    """A point for each optimizer whose result and cost are known."""
    found = [
        {"o": content.places[row["optimizer"]], "x": short(x[row["optimizer"]]),
         **{key: short(row[name]) for key, name in {"y": y, "low": "low", "high": "high"}.items()}}
        for row in rows.to_dict("records")
    ]  # fmt: skip
    return {"points": [point for point in found if point["x"] and point["y"] is not None]}


def costs(content: Content) -> Table:
    medians, newest = ["compile_seconds", "examples_per_second"], content.newest
    cells = newest.reindex(columns=["optimizer", "unit", *medians]).groupby([labels(newest), "optimizer"])
    found = cells[medians].median().join(cells["unit"].first())
    relative = relative_cost(content.summary)
    rows = []
    for row, times in zip(content.summary.to_dict("records"), relative, strict=True):
        compiling, rate, unit = found.loc[(row["problem"], row["optimizer"])]
        values = map(number, (times, row["gradients_per_step"], row["state"], compiling))
        sizes = (row[f"{name}_megabytes"] for name in MEMORY)
        sizes = ("<0.001" if size < 1e-3 else number(size) for size in sizes)
        speed = (number(row["microseconds"]), throughput(rate, unit))
        rows.append((row["problem"], row["optimizer"], *speed, *values, *sizes))
    header = (
        "task", "optimizer", "us/step", "per second", "relative cost", "grads/step",
        "state/param", "compile s", *(f"{name} MB" for name in MEMORY),
    )  # fmt: skip
    note = (
        "us/step: microseconds of one lane on one core. per second: examples or tokens of all lanes of a program. "
        "relative cost: us/step over that of the cheapest optimizer. compile s: of one program, which runs all lanes "
        "of a task and optimizer. lane MB: what one lane keeps from step to step, its parameters and the optimizer's "
        "state. program MB: that program as XLA counts it, with data, lanes and working memory (with --lanes loop, of "
        "one lane). peak MB: on a CPU the peak of the worker's process so far, earlier programs included; on an "
        "accelerator the peak of the program. Times of different frameworks or machines are not comparable."
    )
    return Table("Cost of steps, compilation and memory", header, rows, note=note)


def throughput(rate: float, unit: str) -> str:
    """`52,100 tokens`: data per second; a dash where there are none."""
    return f"{float(f'{rate:.3g}'):,.0f} {unit}" if rate > 0 else "-"


def budgets(content: Content) -> Table:
    rows = [
        (row["problem"], row["optimizer"], *(str(row[name]) for name in ("trials", "dimensions", "seeds")),
         f"{row['steps']:,.0f}", number(row["gradients"]), number(row["seconds"]), row["where"])
        for row in content.standings["steps"].certified.to_dict("records")
    ]  # fmt: skip
    numbers = ("trials", "searched", "seeds", "steps", "gradients", "seconds")
    header = ("task", "optimizer", *numbers, "lane mode and CPU")
    return Table("Budget of each optimizer, all lanes together", header, rows)


def failures(content: Content) -> list[Part]:
    counts = pd.concat([problem.rows["status"] for problem in content.problems]).value_counts()
    rows = [(str(each), f"{counts[each]:,}", each.sentence) for each in Status if each in counts.index]
    lines = [*caveats.failures(content.problems)]
    summary = f"Where: {count(len(lines), 'combination')} of task, optimizer and status"
    where = Details(summary, [Bullets(lines)], open=len(lines) <= 12)
    table = Table("Status of all lanes", ("status", "lanes", "meaning"), rows, 3)
    return [table, where if lines else Text("No lane diverged or failed.")]
