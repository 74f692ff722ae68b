"""The comparison over problems, on each axis: profiles, runtime distributions, ranks with their tests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from matplotlib.figure import Figure

from optbench.report import markdown
from optbench.report.axes import draw_ranks, draw_shares
from optbench.report.charts import lines
from optbench.report.content import Content
from optbench.report.figures import WIDTH, columns_that_fit, legend, new_figure
from optbench.report.parts import Bullets, ByAxis, Chart, Charts, Details, Part, Picture, Table, Text
from optbench.report.standing import SPOKEN, Standing
from optbench.stats.aggregates import improvement, interquartile_means
from optbench.stats.profiles import algoperf_scores, performance_profiles, published
from optbench.stats.times import PENALTY, areas_under, distributions, times_to_target
from optbench.wording import interval, number

ENDS = ("middle", "low", "high"), ("ert", "ert_low", "ert_high"), ("par", "par_low", "par_high")
"""The columns of a time with its interval: its median, its expectation, its penalised mean."""


def data(content: Content) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """For each axis that is ranked, the lines of the profiles and of the runtime distributions."""
    return {
        axis: {
            "profiles": lines(performance_profiles(standing.rows), "ratio", "share", content.places),
            "reached": lines(distributions(standing.runtimes), "spent", "share", content.places),
        }
        for axis, standing in content.standings.items() if not standing.refusals
    }  # fmt: skip


def profiles(content: Content) -> list[Part]:
    drawn = data(content)
    if "steps" not in drawn:
        return [Text(" ".join(content.standings["steps"].refusals))]
    note = (
        "Performance profiles: the share of problems on which an optimizer reaches the main target within a multiple "
        "of the fastest optimizer's time (Dolan and Moré). Runtime distributions: the share of 51 targets, from the "
        "start to the hardest, that it has reached by a share of the budget. Higher is better in both."
    )
    kinds = {
        "profiles": ("Performance profiles", "share of problems solved"),
        "reached": ("Runtime distributions", "share of targets reached"),
    }
    charts = [
        Chart(name, kind, {axis: each[kind] for axis, each in drawn.items()}, label)
        for kind, (name, label) in kinds.items()
    ]
    alt = "Performance profiles, runtime distributions and mean ranks"
    tables = {
        axis: [Details(f"Times to the main target, in {SPOKEN[axis]}", [times(content.standings[axis])])]
        for axis in drawn
    }
    picture = Picture("standings", alt, lambda: draw(content, drawn["steps"]))
    return [Charts(note, charts), *[picture] * content.figures, ByAxis(tables)]


def times(standing: Standing) -> Table:
    rows = [
        (row["problem"], row["optimizer"],
         f"{row['reached']}/{row['runs']} [{row['share_low']:.0%}, {row['share_high']:.0%}]",
         *(interval(*(row[end] for end in ends), lost="never") for ends in ENDS),
         "-" if row["runs"] < 2 else number(row["below"], 2), number(row["resolution"]))
        for row in times_to_target(standing.best).to_dict("records")
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
class Ranks(Part):
    """Mean ranks on an axis, with a bracket beside neighbours that do not differ significantly."""

    standing: Standing

    def rows(self) -> list[dict[str, Any]]:
        """Best first, with places in percent of the axis, and which part of each bracket a row has."""
        last = max(1, len(self.standing.ranks) - 1)
        keys = ("rank", "low", "high", "low_tasks", "high_tasks")
        brackets = [names for names in self.standing.cliques if len(names) > 1]
        rows = []
        for row in self.standing.ranks.to_dict("records"):
            at = {f"{key}_at": f"{3 + 94 * (row[key] - 1) / last:.1f}" for key in keys}
            inside = [bracket(row["optimizer"], names) for names in brackets]
            text = interval(row["rank"], row["low"], row["high"])
            rows.append({**row, **at, "cliques": inside, "text": text})
        return rows


def bracket(name: str, names: list[str]) -> str:
    """The part of a bracket over neighbours that is beside a row."""
    if name not in names:
        return "out"
    return {0: "first", len(names) - 1: "last"}.get(names.index(name), "inside")


@dataclass(frozen=True)
class Chances(Part):
    """The probability of improvement of each pair, best optimizers first; bold where that is significant."""

    standing: Standing

    @cached_property
    def rows(self) -> dict[str, list[tuple[str, bool]]]:
        """The chance that a run of one is better than a run of another, and whether its interval excludes 50 %."""
        names = self.standing.ranks["optimizer"]
        found = improvement(self.standing.rows).set_index(["optimizer", "other"])

        def chance(one: str, other: str) -> tuple[str, bool]:
            row: Any = found.loc[(one, other)]
            return f"{100 * row['probability']:.0f} %", bool(
                row["low_tasks"] > 0.5 or row["high_tasks"] < 0.5
            )

        return {
            one: [chance(one, other) if one != other else ("", False) for other in names] for one in names
        }

    def markdown(self) -> str:
        names = [markdown.escape(name) for name in self.rows]
        cells = [[f"**{text}**" if sure else text for text, sure in row] for row in self.rows.values()]
        return markdown.escaped_table(
            ["better", *names], ([name, *row] for name, row in zip(names, cells, strict=True))
        )


def ranks(content: Content) -> list[Part]:
    """On the page for each axis; in Markdown in steps."""
    return [ByAxis({axis: ranked(content, axis) for axis in content.standings})]


def ranked(content: Content, axis: str) -> list[Part]:
    standing = content.standings[axis]
    heading = Text(f"In {SPOKEN[axis]}", "heading")
    if standing.refusals:
        return [heading, Text("No ranking. " + " ".join(standing.refusals))]
    flips = standing.flips
    return [
        heading,
        *([Text(standing.left_out, "note")] if standing.left_out else []),
        Ranks(standing),
        Bullets(standing.sentences),
        scores(standing),
        Details(
            f"Pairs whose order depends on one other optimizer or problem: {len(flips)}",
            [Bullets(flips)], open=len(flips) <= 6,
        ) if flips else Text("No pair's order depends on one other optimizer or problem."),
        Details("Probability of improvement", [Chances(standing)]),
    ]  # fmt: skip


def scores(standing: Standing) -> Table:
    """Mean ranks and scores, best first, with their intervals over seeds and over problems."""
    tables = {
        "score": algoperf_scores(standing.rows, *published(standing.frame)),
        "iqm": interquartile_means(standing.rows),
        "area": areas_under(standing.runtimes),
    }
    found = {name: table.set_index("optimizer") for name, table in tables.items()}
    rows = []
    for row in standing.ranks.to_dict("records"):
        name = row["optimizer"]
        score, mean, area = (found[key].loc[name] for key in tables)
        rows.append((
            name, over_seeds(row, "rank"), over_problems(row, "rank"), str(row["wins"]), over_seeds(score, "score"),
            over_problems(score, "score"), f"{score['solved']:.0f}/{score['problems']:.0f}", over_seeds(area, "area"),
            over_seeds(mean, "iqm"),
        ))  # fmt: skip
    header = (
        "optimizer", "mean rank", "over problems", "wins", "AlgoPerf", "over problems", "solved", "targets reached",
        "progress",
    )  # fmt: skip
    note = (
        "In brackets: the 95 % bootstrap interval over seeds; under over problems, the t interval over problems, "
        "which a statement about other problems needs. wins: problems that it leads alone. AlgoPerf: "
        "area under the performance profile, 1 if fastest on every problem (arXiv:2306.07179). solved: problems whose "
        "main target the median seed reached. targets reached: area under the runtime distribution. progress: "
        "interquartile mean of the progress from the start to the hardest target, on a log scale (arXiv:2108.13264)."
    )
    return Table(f"Scores over {standing.rows['problem'].nunique()} problems", header, rows, 1, note)


def over_seeds(row: Any, name: str) -> str:
    return interval(row[name], row["low"], row["high"])


def over_problems(row: Any, name: str) -> str:
    text = interval(row[name], row["low_tasks"], row["high_tasks"])
    return text.partition(" ")[2] or f"[{text}, {text}]"


def draw(content: Content, drawn: dict[str, list[dict[str, Any]]], width: float = WIDTH) -> Figure:
    """Profiles, runtime distributions, and ranks with their cliques, in steps."""
    standing = content.standings["steps"]
    looks = {name: content.looks[name] for name in content.looks if name in set(standing.ranks["optimizer"])}
    columns = columns_that_fit(list(looks), width)
    height = max(2.4, 0.8 + 0.17 * len(looks)) + 0.2 * math.ceil(len(looks) / columns)
    figure = new_figure(width, height)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.05])
    for axes, kind, title, x, y in (
        (left, "profiles", "performance profiles", "steps over the fastest", "share of problems solved"),
        (middle, "reached", "runtime distributions", "share of the budget", "share of targets reached"),
    ):
        draw_shares(axes, drawn[kind], list(content.looks.values()), percent=kind == "reached")
        axes.set(title=title, xlabel=x, ylabel=y)
    draw_ranks(right, standing.ranks.to_dict("records"), standing.cliques, looks)
    right.set(title="mean rank", xlabel="1 is best; by steps")
    legend(figure, list(looks.values()), list(looks), [], loc="outside upper center", ncols=columns)
    return figure
