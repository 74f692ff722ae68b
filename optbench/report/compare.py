"""`optbench report --compare A B`: what changed between two result folders or two versions, against its spread.

Cells are paired: the same task, optimizer, learning rate and seed on both sides. `RATIO` says what is compared; of
lanes that stop at a target, where A reaches it, the steps to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from optbench.cell import FINAL
from optbench.fields import UserError, nearest
from optbench.record import Question
from optbench.report.parts import Code, Part, Section, Table, Terms, Text
from optbench.report.problem import lost
from optbench.report.reproduce import environment
from optbench.report.selection import Selection
from optbench.stats import Frame
from optbench.stats.costs import costs
from optbench.stats.curves import median_interval, middle
from optbench.stats.outcomes import chosen, final, steps_to
from optbench.stats.provenance import mixed
from optbench.stats.settings import PROBLEM, labels, modern, newest, question_of
from optbench.store import Store
from optbench.wording import interval, listed, number, spoken, value, whole


class Move(NamedTuple):
    """One optimizer on one problem, on both sides."""

    problem: str
    optimizer: str
    metric: str
    """What is compared; less is better."""
    trial: float
    trial_b: float
    a: tuple[float, float, float]
    b: tuple[float, float, float]
    """Median, low and high at A's learning rate."""
    ratio: tuple[float, float, float]
    """Median, low and high over seeds of B/A."""
    seeds: int
    identical: int
    cells: int
    """Cells that both have; `identical` of them have bit-identical losses."""
    speed: float
    """Microseconds per step, B/A."""
    lost: tuple[int, int]
    """Lanes that diverged or failed."""

    @property
    def verdict(self) -> str:
        middle, low, high = self.ratio
        if self.identical == self.cells:
            return "same bits"
        if low <= 1 <= high or math.isnan(middle):
            return "undecided"
        return "better" if high < 1 else "worse"

    @property
    def change(self) -> str:
        """`0.93 [0.9, 1.1]`."""
        return interval(*self.ratio, beside=1)

    @property
    def of_spread(self) -> float:
        """The size of the change in half-widths of A's interval over seeds, on a log scale; NaN without one."""
        _, low, high = self.a
        if not (0 < low < high < math.inf):
            return math.nan
        return abs(math.log(self.ratio[0])) / (math.log(high / low) / 2) if self.ratio[0] > 0 else math.inf


@dataclass(frozen=True)
class Comparison:
    """Two sides of the same question."""

    selection: Selection
    names: tuple[str, str]
    sides: tuple[Frame, Frame]

    @cached_property
    def groups(self) -> tuple[dict[tuple[str, ...], Frame], ...]:
        """The cells of each problem and optimizer, by the text of their keys, on each side."""
        keys = [*PROBLEM, "optimizer"]
        texts = ((frame, [frame[key].astype(str) for key in keys]) for frame in self.sides)
        return tuple(dict(iter(frame.groupby(by, sort=False))) for frame, by in texts)

    @cached_property
    def common(self) -> list[Move]:
        """What both sides have, in the order of the report."""
        a, b = self.groups
        names = labels(self.sides[0])
        return [move(str(names[a[key].index[0]]), key[-1], a[key], b[key]) for key in a if key in b]

    @property
    def moves(self) -> list[Move]:
        """Of these what has runs to compare."""
        return [each for each in self.common if each.seeds]

    @cached_property
    def alone(self) -> tuple[list[str], ...]:
        """What only one side has, for A also at the learning rate that it chose."""
        a, b = map(set, self.groups)
        sides = [sorted(f"{key[-1]} on {key[0]}" for key in more) for more in (a - b, b - a)]
        rate = [
            f"{each.optimizer} on {each.problem} at lr {number(each.trial)}"
            for each in self.common
            if not each.seeds
        ]
        return sides[0] + rate, sides[1]

    @property
    def headline(self) -> str:
        counts = {word: sum(each.verdict == word for each in self.moves) for word in WORDS}
        texts = [f"{counts[word]} {text}" for word, text in WORDS.items() if counts[word]]
        cells, same = (sum(getattr(each, name) for each in self.moves) for name in ("cells", "identical"))
        return (
            f"Of {len(self.moves)} pairs of problem and optimizer, {listed(texts)}. "
            f"{same:,} of {cells:,} cells that both have are bit-identical."
        )

    @property
    def notes(self) -> list[str]:
        """In what the sides, or rows of one, differ beside their results."""
        return mixed(pd.concat(self.sides, ignore_index=True))

    def sections(self) -> list[Section]:
        said = [Text(self.headline, "headline"), *map(Text, self.notes), Text(RATIO, "note"), Ratios(self)]
        rows = [texts(each) for each in self.moves]
        alone = {name: "; ".join(only) for name, only in zip("AB", self.alone, strict=True) if only}
        facts: list[Part] = []
        for name, frame in zip(self.names, self.sides, strict=True):
            facts += [Text(name, "heading"), Terms(environment(frame), "pairs")]
        return [
            ("Verdict", said),
            ("Table", [Table("Every problem and optimizer that both sides have", HEADER, rows, 4, COLUMNS)]),
            *([("On one side only", [Terms(alone)])] if alone else []),
            ("Environment", facts),
            ("Reproduce", [Code([self.selection.report_command(compare=self.names)])]),
        ]


@dataclass(frozen=True)
class Ratios(Part):
    """The ratio of each move on a log axis around 1."""

    comparison: Comparison

    def bars(self) -> tuple[tuple[float, float], list[tuple[Move, str, str, str]]]:
        """The ends of the axis, and each move with low, median and high in percent of it."""
        moves = self.comparison.moves
        logs = [math.log(v) for each in moves for v in each.ratio if math.isfinite(v) and v > 0]
        far = max(math.log(1.1), *map(abs, logs))

        def place(ratio: float) -> str:
            at = -far if ratio <= 0 else far if not math.isfinite(ratio) else math.log(ratio)
            return f"{50 + 47 * at / far:.1f}"

        bars = [(each, place(each.ratio[1]), place(each.ratio[0]), place(each.ratio[2])) for each in moves]
        return (math.exp(-far), math.exp(far)), bars


TITLE = "What changed between two results?"
RATIO = (
    "The ratio B/A of the final values, seed by seed, at the learning rate that A chose (on fresh seeds, which only "
    "the winner has, at that of each side): the median and its interval over seeds (exact order statistics), min-max "
    "below 5 seeds. Left of the line is better. A result changed if it excludes 1."
)
COLUMNS = (
    "change/spread: the change in half-widths of A's interval over seeds, on a log scale. lost: lanes that diverged or "
    "failed. same bits: cells whose losses are bit-identical, of those that both have. An arrow: from A to B."
)
WORDS = {
    "better": "improved",
    "worse": "got worse",
    "undecided": "stayed within the spread over seeds",
    "same bits": "are bit-identical",
}


def compare(results: str, names: tuple[str, str], selection: Selection) -> Comparison:
    """Both sides, each a results folder, a commit (or its beginning) or a version in `results`.

    Raises:
        UserError: a side is not there, or both have nothing in common.
    """
    sides = tuple(side(name, results, selection) for name in names)
    found = Comparison(selection, names, sides)  # pyright: ignore[reportArgumentType]
    if not found.moves:
        raise UserError(
            f"{names[0]!r} and {names[1]!r} have no cells of suite {selection.suite} in common. "
            f"Run the same on both sides: {selection.command()}"
        )
    return found


def side(name: str, results: str, selection: Selection) -> Frame:
    """The rows of a results folder, or those of one version in the given folder."""
    if Path(name).is_dir():
        store = Store(name)
        return newest(selection.rows(selection.read(store), store.folder))
    store = Store(results)
    frame = store.frame(every=True) if store.runs.is_dir() else pd.DataFrame()
    versions = frame.reindex(columns=["commit", "optbench_version"]).fillna("").astype(str)
    begins = versions.apply(lambda texts: texts.str.startswith(name) & (len(name) >= 4)).astype(bool)
    rows = frame[(begins | (versions == name)).any(axis=1)]
    if rows.empty:
        known = sorted({*versions.to_numpy().flat} - {""})
        hint = nearest(name, known) if known else f"Nothing is stored in {results!r}."
        raise UserError(
            f"{name!r} is neither a folder nor a version that {results!r} has rows of. {hint} "
            "Give two folders, or two commits: optbench report --compare A B"
        )
    return newest(selection.rows(modern(rows.reset_index(drop=True)), store.folder))


def move(problem: str, optimizer: str, a: Frame, b: Frame) -> Move:
    # Of an untuned winner, whose cell has two stages, what is reported.
    a, b = (rows.drop_duplicates("cell", keep="last") for rows in (a, b))
    best, best_b = chosen(a), chosen(b)
    pairs = a.merge(b, on="cell", suffixes=("", "_b"))[["status", "status_b", "losses", "losses_b"]]
    same = [
        status == status_b and np.asarray(losses).tobytes() == np.asarray(losses_b).tobytes()
        for status, status_b, losses, losses_b in pairs.itertuples(index=False)
    ]
    metric, finals = paired(best, best_b if "stage" in b else b, question_of(a))
    ours, theirs = (np.maximum(values, 1e-300) for values in finals)
    failed = np.isinf(ours) & np.isinf(theirs)  # on both sides: no change
    ratios = np.divide(theirs, ours, out=np.ones_like(ours), where=~failed)
    speed, speed_b = (costs(rows[rows["status"].isin(FINAL)])["microseconds"] for rows in (a, b))
    return Move(
        problem=problem, optimizer=optimizer, metric=metric, trial=best["trial"].astype(float).iloc[0],
        trial_b=best_b["trial"].astype(float).iloc[0],
        a=median_interval(finals[0]), b=median_interval(finals[1]), ratio=median_interval(ratios),
        seeds=len(ratios), identical=sum(same), cells=len(same), speed=speed_b / speed,
        lost=(len(lost(a)), len(lost(b))),
    )  # fmt: skip


def paired(best: Frame, b: Frame, question: Question) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
    """What is compared, and its values in the cells that A chose and B has too, in the same order."""
    key = "seed" if "stage" in best and "stage" in b else "cell"
    ours = best[best[key].isin(b[key])]
    theirs = b.set_index(key).loc[ours[key]].reset_index()
    target = question.last
    if target.final and len(ours):
        steps = [steps_to(rows, target.metric, target.value) for rows in (ours, theirs)]
        if math.isfinite(middle(steps[0])):
            return f"steps to {spoken(target.metric)} {number(target.value)}", (steps[0], steps[1])
    return f"final {spoken(question.score)}", (final(ours, question.score), final(theirs, question.score))


HEADER = (
    "task", "optimizer", "verdict", "metric", "A", "B", "B/A", "change/spread", "best lr",
    "us/step B/A", "lost", "same bits",
)  # fmt: skip


def texts(each: Move) -> tuple[str, ...]:
    rates = dict.fromkeys(map(number, (each.trial, each.trial_b)))
    return (
        each.problem, each.optimizer, each.verdict, each.metric,
        shown(each.metric, each.a), shown(each.metric, each.b), each.change,
        number(each.of_spread, 2), " → ".join(rates), "-" if math.isnan(each.speed) else f"{each.speed:.2f}",
        " → ".join(dict.fromkeys(map(str, each.lost))), f"{each.identical}/{each.cells}",
    )  # fmt: skip


def shown(metric: str, numbers: tuple[float, float, float]) -> str:
    return whole(*numbers) if metric.startswith("steps") else value(metric, *numbers)


def frame_of(found: Comparison) -> Frame:
    """The moves as a table for a program."""
    rows = [each._asdict() | {"verdict": each.verdict, "of_spread": each.of_spread} for each in found.moves]
    for row in rows:
        for name in ("a", "b", "ratio"):
            row[name], row[f"{name}_low"], row[f"{name}_high"] = row[name]
        row["lost"], row["lost_b"] = row["lost"]
    return pd.DataFrame(rows)
