"""What runs cost, what each optimizer's budget was, and what failed."""

from __future__ import annotations

import math

import pandas as pd

from optbench.cell import Status
from optbench.report import caveats
from optbench.report.content import Content
from optbench.report.parts import Bullets, Details, Part, Table, Text
from optbench.stats import Frame
from optbench.wording import count, number

MEMORY = ("lane", "program", "peak")
"""The sizes that are shown, as `stats.costs.memory` names them."""


def cost(content: Content) -> list[Part]:
    return [costs(content), Details("Budget of each optimizer", [budgets(content)])]


def costs(content: Content) -> Table:
    least = content.summary.groupby("problem", sort=False)["microseconds"].min()
    rows = []
    for row in content.summary.to_dict("records"):
        cells = content.rows_of(row)
        relative = row["microseconds"] / least[row["problem"]]
        compiling = cells["compile_seconds"].median() if "compile_seconds" in cells else math.nan
        values = map(number, (relative, row["gradients_per_step"], row["state"], compiling))
        sizes = (megabytes(row[f"{name}_megabytes"]) for name in MEMORY)
        speed = (number(row["microseconds"]), throughput(cells))
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


def throughput(cells: Frame) -> str:
    """`52,100 tokens`: data per second; a dash where there are none."""
    if "examples_per_second" not in cells or not (rate := cells["examples_per_second"].median()) > 0:
        return "-"
    return f"{float(f'{rate:.3g}'):,.0f} {cells['unit'].iloc[0]}"


def megabytes(size: float) -> str:
    """Three digits, down to a kilobyte."""
    return "<0.001" if size < 1e-3 else number(size)


def budgets(content: Content) -> Table:
    rows = [
        (row["problem"], row["optimizer"], *(str(row[name]) for name in ("trials", "dimensions", "seeds")),
         f"{row['steps']:,.0f}", number(row["gradients"]), number(row["seconds"]), row["where"])
        for row in content.standings["steps"].certified.to_dict("records")
    ]  # fmt: skip
    header = (
        "task",
        "optimizer",
        "trials",
        "searched",
        "seeds",
        "steps",
        "gradients",
        "seconds",
        "lane mode and CPU",
    )
    return Table("Budget of each optimizer, all lanes together", header, rows)


def failures(content: Content) -> list[Part]:
    counts = pd.concat([problem.rows["status"] for problem in content.problems]).value_counts()
    rows = [(str(each), f"{counts[each]:,}", each.sentence) for each in Status if each in counts.index]
    lines = caveats.failures(content.problems)
    summary = f"Where: {count(len(lines), 'combination')} of task, optimizer and status"
    return [
        Table("Status of all lanes", ("status", "lanes", "meaning"), rows, 3),
        Details(summary, [Bullets(lines)], open=len(lines) <= 12)
        if lines
        else Text("No lane diverged or failed."),
    ]
