"""The tables of a report, as texts that each form of the page escapes for itself."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd

from optbench.cell import Status
from optbench.report.content import Content
from optbench.report.standing import Standing
from optbench.stats import Frame
from optbench.stats.aggregates import interquartile_means
from optbench.stats.leaders import winners
from optbench.stats.lint import lint_problems
from optbench.stats.profiles import algoperf_scores
from optbench.stats.settings import labels
from optbench.stats.summary import all_texts
from optbench.stats.times import PENALTY, areas_under, times_to_target
from optbench.stats.tunability import untuned
from optbench.wording import digits_apart, interval, number, value

MEMORY = ("lane", "program", "peak")
"""Of which memory is told, as `stats.costs.memory` names it."""

ENDS = ("middle", "low", "high"), ("ert", "ert_low", "ert_high"), ("par", "par_low", "par_high")
"""The columns of a time with its interval: its median, its expectation, its penalised mean."""


class Table(NamedTuple):
    """A caption, a header and rows of texts; the first `left` columns are words."""

    caption: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    left: int = 2
    note: str = ""


def main(told: Content) -> Table:
    """The terminal's table, with how many seeds it is over and what a step costs in gradients."""
    rows = []
    table = told.with_untuned
    for row, cells in zip(table.to_dict("records"), all_texts(table), strict=True):
        cost = number(row["gradients_per_step"])
        texts = [row["problem"], *(text.replace(">=", "≥ ") for text in cells[1:])]
        if row["trial_low"] < row["trial_high"]:
            texts[2] += f" [{number(row['trial_low'])}, {number(row['trial_high'])}]"
        rows.append((*texts, str(row["seeds"]), cost))
    header = (
        "task", "optimizer", "best lr", "final loss", "test", "steps",
        "decades", "us/step", "state/param", "diverged", "seeds", "grads/step",
    )  # fmt: skip
    return Table("Every task and optimizer at its best learning rate", header, rows, note=told.selected)


def won(told: Content) -> Table:
    """What the winning trials set, where trials were chosen on other seeds."""
    found = told.stored[told.stored["stage"] == "report"].assign(problem=labels(told.stored))
    found = found.drop_duplicates(["problem", "optimizer"])
    trials = told.summary.set_index(["problem", "optimizer"])["trials"]
    rows = [
        (
            row["problem"],
            row["optimizer"],
            row["hyperparameters"] or "-",
            str(max(1, trials[row["problem"], row["optimizer"]])),
        )
        for row in found.to_dict("records")
    ]
    return Table("What won among the trials", ("task", "optimizer", "hyperparameters", "trials"), rows, 3)


def costs(told: Content) -> Table:
    """What a step, a compilation and memory cost."""
    least = told.summary.groupby("problem", sort=False)["microseconds"].min()
    rows = []
    for row in told.summary.to_dict("records"):
        cells = told.rows_of(row)
        relative = row["microseconds"] / least[row["problem"]]
        compiling = cells["compile_seconds"].median() if "compile_seconds" in cells else math.nan
        values = map(number, (relative, row["gradients_per_step"], row["state"], compiling))
        sizes = (megabytes(row[f"{name}_megabytes"]) for name in MEMORY)
        speed = (number(row["microseconds"]), passed(cells))
        rows.append((row["problem"], row["optimizer"], *speed, *values, *sizes))
    header = (
        "task", "optimizer", "us/step", "a second", "times the cheapest", "grads/step",
        "state/param", "compile s", *(f"{name} MB" for name in MEMORY),
    )  # fmt: skip
    note = (
        "us/step: microseconds of one lane on one core. a second: what all lanes of a program see. compile s: of "
        "one program, which runs all lanes of a task and optimizer. lane MB: what one lane keeps from step to "
        "step, its parameters and the optimizer's state. program MB: that program as XLA counts it, with data, "
        "lanes and working memory (with --lanes loop, of one lane). peak MB: on a CPU the most that the worker's "
        "process had held by then, whatever it ran before; on an accelerator the most that the program took "
        "there. Seconds of different frameworks or machines do not compare."
    )
    return Table("What a step, a compilation and memory cost", header, rows, note=note)


def passed(cells: Frame) -> str:
    """`52,100 tokens`: how much data a program gets through in a second; a dash where there are none."""
    if "examples_per_second" not in cells or not (rate := cells["examples_per_second"].median()) > 0:
        return "-"
    return f"{float(f'{rate:.3g}'):,.0f} {cells['unit'].iloc[0]}"


def statuses(told: Content) -> Table:
    """Every status that occurred, and what it means."""
    counts = pd.concat([problem.rows["status"] for problem in told.problems]).value_counts()
    rows = [(str(each), f"{counts[each]:,}", each.sentence) for each in Status if each in counts.index]
    return Table("How lanes ended", ("status", "lanes", "meaning"), rows, 3)


def standing(told: Standing) -> Table:
    """Mean ranks and scores, best first, with what their intervals are over."""
    scores, means, areas = (
        found.set_index("optimizer")
        for found in (algoperf_scores(told.rows), interquartile_means(told.rows), areas_under(told.runtimes))
    )
    rows = []
    for row in told.ranks.to_dict("records"):
        name = row["optimizer"]
        score, mean, area = (found.loc[name] for found in (scores, means, areas))
        rows.append((
            name, seeds(row, "rank"), between(row, "rank"), str(row["wins"]), seeds(score, "score"),
            between(score, "score"), f"{score['solved']:.0f}/{score['problems']:.0f}", seeds(area, "area"),
            seeds(mean, "iqm"),
        ))  # fmt: skip
    header = (
        "optimizer", "mean rank", "over problems", "wins", "AlgoPerf", "over problems", "solved", "reached", "progress",
    )  # fmt: skip
    note = (
        "In brackets: the 95 % bootstrap interval over seeds and, under over problems, the t interval over problems, "
        "which is the one that a claim about other problems needs. wins: problems that it leads alone. AlgoPerf: "
        "area under the performance profile, 1 if fastest on every problem (arXiv:2306.07179). solved: problems whose "
        "main target the median seed reached. reached: area under the runtime distribution. progress: interquartile "
        "mean of the way from the start to the hardest target, on a log scale (arXiv:2108.13264)."
    )
    return Table(f"Standings over {told.rows['problem'].nunique()} problems", header, rows, 1, note)


def seeds(row: Any, name: str) -> str:
    """A number with its interval over seeds."""
    return interval(row[name], row["low"], row["high"])


def between(row: Any, name: str) -> str:
    """The interval over problems."""
    found = interval(row[name], row["low_tasks"], row["high_tasks"])
    return found.partition(" ")[2] or f"[{found}, {found}]"


def times(told: Standing) -> Table:
    """How long to each problem's main target, failures kept."""
    rows = [
        (row["problem"], row["optimizer"],
         f"{row['reached']}/{row['runs']} [{row['share_low']:.0%}, {row['share_high']:.0%}]",
         *(interval(*(row[end] for end in ends), lost="never") for ends in ENDS),
         "-" if row["runs"] < 2 else number(row["below"], 2), number(row["resolution"]))
        for row in times_to_target(told.best).to_dict("records")
    ]  # fmt: skip
    note = (
        "reached: seeds, with the exact 95 % interval of their share. median: with its interval. expected: total time "
        "over the number of runs that reached the target. penalised: the mean, where a failure counts "
        f"{PENALTY} budgets. below: one-sided p that the mean log of the target's metric ends below the target. Times "
        "are interpolated on a log scale between evaluations; every: steps between these."
    )
    header = ("task", "optimizer", "reached", "median", "expected", "penalised", "below", "every")
    return Table("To each problem's main target", header, rows, note=note)


def budgets(told: Content) -> Table:
    """The equal-budget certificate."""
    rows = [
        (row["problem"], row["optimizer"], *(str(row[name]) for name in ("trials", "dimensions", "seeds")),
         f"{row['steps']:,.0f}", number(row["gradients"]), number(row["seconds"]), row["where"])
        for row in told.standings["steps"].certified.to_dict("records")
    ]  # fmt: skip
    header = ("task", "optimizer", "trials", "searched", "seeds", "steps", "gradients", "seconds", "where")
    return Table("What each optimizer was given, all lanes together", header, rows)


def lint(told: Content) -> Table:
    """What is wrong with each problem as a test."""
    rows = [
        (row["problem"], row["finding"] or "fine", row["says"], f"{row['apart']}/{row['pairs']}",
         number(row["between"]), number(row["within"]))
        for row in lint_problems(told.standings["steps"].best).to_dict("records")
    ]  # fmt: skip
    note = (
        "pairs apart: significant in a t test paired by seed. between: decades between the optimizers; "
        "within: decades between the seeds of one (half the distance of the quartiles)."
    )
    return Table(
        "Does each problem tell optimizers apart?",
        ("task", "finding", "in words", "pairs apart", "between", "within"), rows, 3, note,
    )  # fmt: skip


def tuned(told: Content) -> Table:
    """What untuned defaults give, beside what tuning gives."""
    metrics = {problem.name: problem.question.score for problem in told.problems}
    rows = []
    for row in untuned(told.standings["steps"].outcomes).to_dict("records"):
        metric = metrics[row["problem"]]
        digits = digits_apart((row["value"], row["best"]))
        both = (value(metric, row[name], digits=digits) for name in ("value", "best"))
        ranks = (f"{row[name]:g} of {row['others']}" for name in ("rank", "rank_tuned"))
        better = f"{row['better']}/{row['trials']}"
        rows.append((row["problem"], row["optimizer"], number(row["default"]), *both, better, *ranks))
    header = (
        "task", "optimizer", "default lr", "untuned", "tuned", "better trials", "rank untuned", "rank tuned",
    )  # fmt: skip
    where = (
        "With the seeds that report"
        if "stage" in told.stored
        else "Where the default learning rate is on the grid"
    )
    note = f"{where}. better trials: how many chose a better selection metric than the default gives."
    return Table("Untuned defaults", header, rows, note=note)


def generalising(told: Content) -> Table:
    """Who minimises and who generalises, where these are two things."""
    metrics = {problem.name: problem.question.score for problem in told.problems}
    rows = []
    for row in winners(told.standings["steps"].outcomes).to_dict("records"):
        ends = ([row[f"{name}{end}"] for end in ("", "_low", "_high")] for name in ("training", "score"))
        training, score = interval(*next(ends)), value(metrics[row["problem"]], *next(ends))
        leads = ["leads" * bool(row[name]) for name in ("minimises", "generalises")]
        rows.append((row["problem"], row["optimizer"], training, leads[0], score, leads[1]))
    header = ("task", "optimizer", "training loss", "", "reported metric", "")
    note = (
        "Each tuned for what it is judged by. Leads: the least median, and all that it is not significantly better "
        "than (t test paired by seed)."
    )
    return Table("Who minimises, and who generalises", header, rows, note=note)


def megabytes(size: float) -> str:
    """Three digits, down to a kilobyte."""
    return "<0.001" if size < 1e-3 else number(size)
