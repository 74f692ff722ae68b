"""The comparison over problems, on each axis: profiles, runtime distributions, ranks with their tests."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from matplotlib.figure import Figure

from optbench.report import markdown
from optbench.report.charts import MANY, lines
from optbench.report.content import Content
from optbench.report.figures import WIDTH, columns_that_fit, draw_ranks, draw_shares, legend, new_figure
from optbench.report.markdown import slug
from optbench.report.parts import Bullets, ByAxis, Chart, Charts, Details, Part, Picture, Table, Text
from optbench.report.standing import FEW, SPOKEN, Standing
from optbench.stats.aggregates import improvement, interquartile_means
from optbench.stats.profiles import algoperf_scores, performance_profiles, published
from optbench.stats.times import PENALTY, areas_under, distributions, times_to_target
from optbench.wording import count, interval, number

ENDS = ("middle", "low", "high"), ("ert", "ert_low", "ert_high"), ("par", "par_low", "par_high")
"""The columns of a time with its interval: its median, its expectation, its penalised mean."""


def data(content: Content, kind: str = "") -> dict[str, dict[str, list[dict[str, Any]]]]:
    """For each axis that is ranked, the lines of the profiles and of the runtime distributions."""
    return {
        axis: {
            "profiles": lines(performance_profiles(standing.rows), "ratio", "share", content.places),
            "reached": lines(distributions(standing.runtimes), "spent", "share", content.places),
        }
        for axis, standing in content.kinds.get(kind, content.standings).items()
        if not standing.refusals
    }  # fmt: skip


def profiles(content: Content) -> list[Part]:
    """Of real tasks, then of toys."""
    drawn = {kind: data(content, kind) for kind in content.kinds}
    shown = {kind: part for kind, part in drawn.items() if "steps" in part}
    if not shown:
        return [Text(" ".join(content.standings["steps"].refusals))]
    note = (
        "Performance profiles: the share of tasks on which an optimizer reaches the main target within a multiple "
        "of the fastest optimizer's time (Dolan and Moré). Runtime distributions: the share of 51 targets, from the "
        "start to the final one, that it has reached by a share of the budget. Higher is better in both."
    )
    names = {
        "profiles": ("Performance profiles", "share of tasks solved"),
        "reached": ("Runtime distributions", "share of targets reached"),
    }
    charts = [
        Chart(f"{title}, {kind}s", key, {axis: each[key] for axis, each in part.items()}, label, of=kind)
        for kind, part in shown.items()
        for key, (title, label) in names.items()
    ]
    alt = "Performance profiles, runtime distributions and mean ranks over"
    draws = {kind: functools.partial(draw, content, part["steps"], kind=kind) for kind, part in shown.items()}
    pictures = [Picture(f"standings-{slug(kind)}", f"{alt} {kind}s", each) for kind, each in draws.items()]
    tables = {
        axis: [
            Details(f"Times to the main target of {kind}s, in {SPOKEN[axis]}", [times(content.kinds[kind][axis])])
            for kind, part in shown.items() if axis in part
        ]
        for axis in SPOKEN
    }  # fmt: skip
    return [Charts(note, charts), *pictures * content.figures, ByAxis(tables)]


def times(standing: Standing) -> Table:
    rows = [
        (row["problem"], row["optimizer"],
         f"{row['reached']}/{row['runs']} [{row['share_low']:.0%}, {row['share_high']:.0%}]",
         *(interval(*(row[end] for end in ends), lost="never") for ends in ENDS),
         "-" if row["runs"] < 2 else number(row["below"], 2), number(row["resolution"]))
        for row in times_to_target(standing.reported).to_dict("records")
    ]  # fmt: skip
    note = (
        "reached: runs that reached the target, with the exact 95 % interval of their share. expected: total time over "
        f"the number of runs that reached the target. penalised: the mean, where a failure counts {PENALTY} budgets. "
        "below: one-sided p that the mean log of the target's metric ends below the target. Times are interpolated on "
        "a log scale between evaluations; every: steps between these."
    )
    header = ("task", "optimizer", "reached", "median", "expected", "penalised", "below", "every")
    return Table("Times to each problem's main target", header, rows, note=note)


@dataclass(frozen=True)
class Chances(Part):
    """The probability of improvement of each pair of the best ranked; bold where that is significant."""

    standing: Standing

    @cached_property
    def rows(self) -> dict[str, list[tuple[str, bool]]]:
        """The chance that a run of one is better than a run of another, and whether its interval excludes 50 %."""
        names = self.standing.ranks["optimizer"][:MANY]
        rows = self.standing.rows[self.standing.rows["optimizer"].isin(names)]
        found = improvement(rows).set_index(["optimizer", "other"])

        def chance(one: str, other: str) -> tuple[str, bool]:
            if one == other:
                return "", False
            row: Any = found.loc[(one, other)]
            sure = bool(row["low_tasks"] > 0.5 or row["high_tasks"] < 0.5)
            return f"{100 * row['probability']:.0f} %", sure

        return {one: [chance(one, other) for other in names] for one in names}

    def markdown(self) -> str:
        rows = [
            [markdown.escape(name), *(f"**{text}**" if sure else text for text, sure in cells)]
            for name, cells in self.rows.items()
        ]
        return markdown.escaped_table(["better", *(name for name, *_ in rows)], rows)


def ranks(content: Content) -> list[Part]:
    """Real tasks, then toys: on the page for each axis, in Markdown in steps."""
    kinds = content.kinds.values()
    return [ByAxis({axis: [part for axes in kinds for part in ranked(axes[axis])] for axis in SPOKEN})]


def ranked(standing: Standing) -> list[Part]:
    heading = Text(f"{standing.kind.capitalize()}s, in {SPOKEN[standing.axis]}", "heading")
    if standing.refusals:
        return [heading, Text("No ranking. " + " ".join(standing.refusals))]
    flips = standing.flips
    depends: Part = Text("No pair's order depends on one other optimizer or task.")
    if flips:
        summary = f"Pairs whose order depends on one other optimizer or task: {len(flips)}"
        depends = Details(summary, [Bullets(flips)], open=len(flips) <= FEW)
    chances = "Probability of improvement" + f" of the best {MANY}" * (len(standing.ranks) > MANY)
    return [
        heading,
        *[Text(standing.left_out, "note")] * bool(standing.left_out),
        Bullets([*standing.sentences()]),
        scores(standing),
        depends,
        Details(chances, [Chances(standing)]),
    ]


def scores(standing: Standing) -> Table:
    """Mean ranks and scores, best first, with their intervals over seeds and over problems."""
    tables = {
        "score": algoperf_scores(standing.rows, *published(standing.frame)),
        "iqm": interquartile_means(standing.rows),
        "area": areas_under(standing.runtimes),
    }
    found = {name: table.set_index("optimizer") for name, table in tables.items()}
    rows = []
    for rank in standing.ranks.to_dict("records"):
        score, mean, area = (found[key].loc[rank["optimizer"]] for key in tables)
        rows.append((
            rank["optimizer"], over_seeds(rank, "rank"), over_problems(rank, "rank"), over_seeds(score, "score"),
            over_problems(score, "score"), f"{score['solved']:.0f}/{score['problems']:.0f}",
            over_seeds(area, "area"), over_seeds(mean, "iqm"),
        ))  # fmt: skip
    header = (
        "optimizer", "mean rank", "over tasks", "AlgoPerf", "over tasks", "solved", "targets reached", "progress",
    )  # fmt: skip
    note = (
        "In brackets: the 95 % bootstrap interval over seeds; under over tasks, the t interval over tasks, which "
        "a statement about other tasks needs. AlgoPerf: "
        "area under the performance profile, 1 if fastest on every task (arXiv:2306.07179). solved: tasks whose "
        "main target the median seed reached. targets reached: area under the runtime distribution. progress: "
        "interquartile mean of the progress from the start to the final target, on a log scale (arXiv:2108.13264)."
    )
    over = count(standing.rows["problem"].nunique(), standing.kind)
    return Table(f"Scores over {over}", header, rows, 1, note)


def over_seeds(row: Any, name: str) -> str:
    return interval(row[name], row["low"], row["high"])


def over_problems(row: Any, name: str) -> str:
    text = interval(row[name], row["low_tasks"], row["high_tasks"])
    return text.partition(" ")[2] or f"[{text}, {text}]"


def draw(
    content: Content, drawn: dict[str, list[dict[str, Any]]], width: float = WIDTH, kind: str = ""
) -> Figure:
    """Profiles, runtime distributions, and ranks with their cliques, in steps."""
    standing = content.kinds.get(kind, content.standings)["steps"]
    names = set(standing.ranks["optimizer"])
    looks = {name: content.looks[name] for name in content.lit if name in names}
    columns = columns_that_fit(list(looks), width)
    height = max(2.4, 0.8 + 0.15 * len(names)) + 0.2 * math.ceil(len(looks) / columns)
    figure = new_figure(width, height)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.05])
    for axes, part, title, x, y in (
        (left, "profiles", "performance profiles", "steps over the fastest", "share of tasks solved"),
        (middle, "reached", "runtime distributions", "share of the budget", "share of targets reached"),
    ):
        draw_shares(axes, drawn[part], content.drawn, percent=part == "reached")
        axes.set(title=title, xlabel=x, ylabel=y)
    draw_ranks(right, standing.ranks.to_dict("records"), standing.cliques, content.looks)
    right.set(title=f"mean rank over {standing.kind}s", xlabel="1 is best; by steps")
    legend(figure, looks, loc="outside upper center", ncols=columns)
    return figure
