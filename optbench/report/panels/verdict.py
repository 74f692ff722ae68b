"""Who leads on each problem, what limits that, the comparison table, and whether problems separate optimizers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from optbench.report import caveats, figures, markdown
from optbench.report.charts import progress
from optbench.report.content import Content
from optbench.report.parts import Bullets, Details, Part, Picture, Table, Text
from optbench.stats.lint import lint_problems
from optbench.stats.settings import labels
from optbench.stats.summary import all_texts
from optbench.stats.verdict import Verdict, measured, winners
from optbench.wording import interval, number, spoken, value

ZERO = 3.0
"""Where a strip shows its least value, or zero, which has no place on a log axis: the others then keep away."""
GONE = 98.0
"""Where a strip shows what is infinite."""
FEW = 8
"""How many optimizers of a problem are shown at once."""


@dataclass(frozen=True)
class Strips(Part):
    """The compared numbers of each problem with their intervals on a log axis; in Markdown, the sentence."""

    verdicts: Sequence[Verdict]
    few: int = FEW
    gone: float = GONE

    def rows(self, verdict: Verdict) -> list[dict[str, Any]]:
        """Best first, with the places of median and interval in percent of the axis."""
        ends = ("low", "middle", "high")
        values = [row[key] for row in verdict.rows for key in ends]
        known = [value for value in values if math.isfinite(value) and value > 0] or [1.0]
        low, high = math.log(min(known)), math.log(max(known))
        room = max(high - low, 0.1)
        start = ZERO + 15 if min(values) <= 0 else ZERO

        def place(value: float) -> float:
            if not math.isfinite(value):
                return GONE
            return ZERO if value <= 0 else start + (95 - start) * (math.log(value) - low) / room

        return [
            row | {f"{key}_at": place(row[key]) for key in ends} | {"text": measured(row, brief=True)}
            for row in verdict.rows
        ]

    def pill(self, verdict: Verdict) -> tuple[str, str]:
        """A class and a word for the state of a problem."""
        states = {0: ("none", "none finished"), 1: ("alone", "leads alone")}
        style, word = states.get(len(verdict.leaders), ("tied", "not distinguishable"))
        return style, word if verdict.contested else "only one"

    def markdown(self) -> str:
        escape = markdown.escape
        return markdown.bullets(f"**{escape(each.name)}**: {escape(each.sentence)}" for each in self.verdicts)


def verdict(content: Content) -> list[Part]:
    ranked = (axes["steps"].sentence for axes in content.kinds.values())
    return [Text(content.headline, "headline"), *map(Text, filter(None, ranked))]


def tasks(content: Content) -> list[Part]:
    both = generalising(content)
    ranges = [*caveats.tuning(content.summary)]
    works = Bullets(ranges, "Working learning rates: those that reach a task's first target")
    alt = "Every task: progress at the best learning rate, and the final value at each learning rate"
    return [
        Strips(content.verdicts),
        *[Details(both.caption, [both])] * bool(both.rows),
        *[works] * bool(ranges),
        Bullets(content.caveats, "Caveats", boxed=True),
        *[Picture("overview", alt, lambda: overview(content))] * content.figures,
    ]


def generalising(content: Content) -> Table:
    """Who minimises and who generalises, where these differ."""
    metrics = {problem.name: problem.question.score for problem in content.problems}
    rows = []
    for row in winners(content.standings["steps"].outcomes).to_dict("records"):
        training, score = (
            [row[f"{of}{end}"] for end in ("", "_low", "_high")] for of in ("training", "score")
        )
        least, best = ("leads" * bool(row[name]) for name in ("minimises", "generalises"))
        texts = interval(*training), least, value(metrics[row["problem"]], *score), best
        rows.append((row["problem"], row["optimizer"], *texts))
    header = ("task", "optimizer", "training loss", "", "reported metric", "")
    note = (
        "Each tuned for the metric of its column. Leads: the least median, and all that it is not significantly better "
        "than (t test paired by seed)."
    )
    return Table("Training loss and generalisation have different leaders", header, rows, note=note)


def overview(content: Content, width: float = figures.WIDTH, some: slice = slice(None)) -> Figure:
    """A row for each problem: progress at the best learning rate, and the final value at every one.

    Of many problems two beside each other, on a wider figure; `some` draws a part of them.
    """
    names, problems = content.lit, content.problems[some]
    pairs = 1 if len(problems) <= 6 else 2
    lines = math.ceil(len(problems) / pairs)
    width *= 1 if pairs == 1 else 1.6
    shared = figures.signs(problems, rings=True)
    columns = figures.columns_that_fit([*names, *shared], width)
    height = 1.62 * lines + 0.4 + 0.2 * math.ceil((len(names) + len(shared)) / columns)
    figure = figures.new_figure(width, height)
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.05, hspace=0.02, wspace=0.02)  # pyright: ignore
    grid = figure.subplots(lines, 2 * pairs, squeeze=False, width_ratios=[1.25, 1] * pairs)
    for axes in grid.flat[2 * len(problems) :]:
        axes.set_axis_off()
    for i, (problem, data) in enumerate(zip(problems, content.charts[some], strict=True)):
        left, right = grid.flat[2 * i], grid.flat[2 * i + 1]
        chart = progress(problem, problem.question.selection, content.places)
        figures.draw_progress(left, chart, data["training"]["lost"], content.drawn, targets=False)
        figures.draw_rates(right, data["rates"], content.drawn)
        last = i + pairs >= len(problems)
        metric = spoken(problem.question.selection)
        left.set(title=figures.wrapped(problem.name, 56), ylabel=metric, xlabel="steps" if last else "")
        right.set_title("final, by learning rate" if i < pairs else "", fontweight="normal", color="#444444")
        right.set_xlabel("learning rate" if last else "")
    looks = {name: content.looks[name] for name in names}
    figures.legend(figure, looks, shared, loc="outside upper center", ncols=columns, columnspacing=1.4)
    return figure


def table(content: Content) -> list[Part]:
    return [main(content), *([winning(content)] if content.staged else [])]


def main(content: Content) -> Table:
    """The terminal's table, with the number of seeds, the gradients of a step, and the steps that a verdict counts."""
    final = {
        (each.name, row["optimizer"]): measured(row, brief=True).removesuffix(" steps")
        for each in content.verdicts for row in each.rows if row["by"] == "steps"
    }  # fmt: skip
    rows, summary = [], content.with_untuned
    for row, cells in zip(summary.to_dict("records"), all_texts(summary), strict=True):
        texts = [row["problem"], *(text.replace(">=", "≥ ") for text in cells[1:])]
        if row["trial_low"] < row["trial_high"]:
            texts[2] += f" [{number(row['trial_low'])}, {number(row['trial_high'])}]"
        texts.insert(6, final.get((row["problem"], row["optimizer"]), "-"))
        rows.append((*texts, str(row["seeds"]), number(row["gradients_per_step"])))
    header = (
        "task", "optimizer", "best lr", "final loss", "test", "steps", "to final",
        "decades", "us/step", "state/param", "diverged", "seeds", "grads/step",
    )  # fmt: skip
    return Table("Every task and optimizer at its best learning rate", header, rows, note=content.selected)


def winning(content: Content) -> Table:
    """The hyperparameters of the winning trials, where trials were chosen on other seeds."""
    won = content.stored[content.stored["stage"] == "report"].assign(problem=labels(content.stored))
    won = won.drop_duplicates(["problem", "optimizer"])
    trials = content.summary.set_index(["problem", "optimizer"])["trials"]
    rows = [
        (row["problem"], row["optimizer"], row["hyperparameters"] or "-",
         str(max(1, trials[row["problem"], row["optimizer"]])))
        for row in won.to_dict("records")
    ]  # fmt: skip
    return Table("Winning trials", ("task", "optimizer", "hyperparameters", "trials"), rows, 3)


def lint(content: Content) -> list[Part]:
    rows = [
        (row["problem"], row["finding"] or "ok", row["says"], f"{row['apart']}/{row['pairs']}",
         number(row["between"]), number(row["within"]))
        for row in lint_problems(content.standings["steps"].best).to_dict("records")
    ]  # fmt: skip
    note = (
        "pairs apart: significant in a t test paired by seed. between: decades between the optimizers; "
        "within: decades between the seeds of one (half the interquartile range)."
    )
    header = ("task", "finding", "comment", "pairs apart", "between", "within")
    return [Table("Does each problem separate the optimizers?", header, rows, 3, note)]
