"""Everything that a report says, once, as plain text and tables; each form of the page escapes it for itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optbench.report import charts, doubts, reproduce, resolve
from optbench.report.documents import Told, measured
from optbench.report.look import Look, looks, order
from optbench.report.paths import STATIONS, Terrain, terrains
from optbench.report.problem import Problem, problems
from optbench.report.selection import Selection
from optbench.report.standing import Standing, standings
from optbench.stats import Frame
from optbench.stats.budgets import unequal_searches
from optbench.stats.curves import INTERVAL_FROM, interval_label
from optbench.stats.settings import PROBLEM, SETTING, labels, newest, sentence
from optbench.stats.stages import staged_note, with_untuned
from optbench.stats.summary import summarise
from optbench.stats.verdict import Verdict, headline, verdicts
from optbench.store import Store
from optbench.suite import Suite
from optbench.wording import listed, number, spoken

HOW_TO_READ = {
    "Curves": "the median over seeds at the optimizer's best learning rate. The band is the interval of "
    f"the median by exact order statistics ({interval_label(range(5, 11))} at 5 to 10 seeds), or min-max with fewer "
    f"than {INTERVAL_FROM} seeds. A lane that diverged or failed counts as infinite from there on, and a cross "
    "at the top edge marks where it ended. A curve stops where the median "
    "reached the final target; lanes stop there. Dashed grey lines are targets. Seconds are steps times the measured "
    "time of one step of one lane, without compilation and evaluation; gradient equivalents are steps times what a "
    "step asks for.",
    "Final, by learning rate": "one point for each learning rate of the grid, a bar for the interval (or min-max), a "
    "ring around the best. A cross in the grey strip: lanes diverged or failed there, a small cross if fewer than "
    "half. An open triangle: the value is off the scale. Points are moved a little sideways so that bars do not hide "
    "each other. Of random and quasi-random trials, other hyperparameters move along the line too.",
    "best lr": "the least median of the selection metric, or the fewest steps to the final target; * at the edge of "
    "the grid; in brackets the range of those that are not significantly worse (t test paired by seed). steps: "
    "to the target named with each task. decades: the longest run of learning rates whose median seed reaches "
    "the task's first target; ≥ where it meets the edge of the grid, - if none does.",
    "test": "the reported metric: an error in percent, or a loss; a dash where it is the loss beside it.",
    "us/step": "microseconds of one lane, without compilation and evaluation. state/param: floats of state for each "
    "parameter. diverged: lanes that diverged, of all; +n! lanes that failed. grads/step: gradient equivalents, "
    "where a Hessian-vector product counts 2.",
    "Paths": "each optimizer at the learning rate that got lowest. A ring: the start. A star: the minimum. Markers: "
    f"after {listed([str(step) for step in STATIONS])} steps. Contours are even on a log scale. A picture, not a "
    "ranking.",
    "Leads alone": "the best median, and better than each other optimizer in a t test paired by seed (p < 0.05). Not "
    "distinguishable: this test is not significant. That does not say that two methods are equal.",
}  # fmt: skip


@dataclass(frozen=True)
class Content:
    """The rows that are shown, and what is said about them."""

    selection: Selection
    stored: Frame
    terrains: tuple[Terrain, ...] = ()
    """Paths of the same optimizers, where they are stored."""
    claims: tuple[Told, ...] = ()
    """What documents claim of the same optimizers, where it was measured."""
    passed_over: tuple[str, ...] = ()
    """Result files that could not be read."""
    allow_unequal: bool = False
    """Whether optimizers are ranked although their budgets differ."""

    @classmethod
    def of(cls, selection: Selection, store: Store, allow_unequal: bool = False) -> Content:
        """What a store has for a selection; UserError if that is nothing."""
        frame = selection.read(store)
        rows = selection.rows(frame, store.folder)
        claims = measured(store.folder, rows["optimizer"].unique())
        passed_over = tuple(sorted(store.passed_over))
        return cls(selection, rows, tuple(terrains(frame, rows)), tuple(claims), passed_over, allow_unequal)

    @cached_property
    def suite(self) -> Suite:
        """The suite whose question is answered, with the tuning that is shown."""
        return self.selection.asked()

    @cached_property
    def question(self) -> str:
        """The first line of the suite's docstring."""
        return resolve.docstring(self.selection.suite).partition("\n")[0] or self.suite.name

    @cached_property
    def about(self) -> list[str]:
        """The paragraphs after the question; those that are indented are commands."""
        rest = resolve.docstring(self.selection.suite).partition("\n")[2]
        return [part.strip("\n") for part in rest.split("\n\n") if part.strip()]

    @cached_property
    def problems(self) -> list[Problem]:
        """The tasks at their settings."""
        return problems(self.stored)

    @cached_property
    def optimizers(self) -> list[str]:
        """Everybody who is shown, in the order of every figure."""
        return order(self.stored["optimizer"])

    @cached_property
    def looks(self) -> dict[str, Look]:
        """How each of them is drawn, in every figure."""
        return looks(self.optimizers)

    @cached_property
    def charts(self) -> dict[str, Any]:
        """What is drawn."""
        return charts.data(self.looks, self.problems, self.summary, self.standings, self.terrains)

    @cached_property
    def newest(self) -> Frame:
        """One row for each cell."""
        return newest(self.stored)

    @cached_property
    def summary(self) -> Frame:
        """One row for each problem and optimizer."""
        found = summarise(self.stored)
        found.insert(0, "problem", labels(found))
        return found.assign(command=[self.command(row) for row in found.to_dict("records")])

    @cached_property
    def with_untuned(self) -> Frame:
        """The summary, with a row for each untuned optimizer where there are stages."""
        found = with_untuned(self.summary, self.stored)
        return found.assign(problem=labels(found))

    @property
    def searched(self) -> bool:
        """Whether any optimizer was given more than one trial."""
        return bool((self.summary["trials"] > 1).any())

    @property
    def selected(self) -> str:
        """Which seeds chose, and which are reported; said of every number in the table."""
        if not self.searched:
            return ""
        if "stage" in self.stored:
            return staged_note(self.stored)
        return (
            "Selected and reported on the same seeds, which favours methods with a flat response to the learning rate: "
            "optbench run --fresh, or --tuning quasi, reports on fresh seeds."
        )

    @cached_property
    def overall(self) -> str:
        """Who stands best over all problems, and how sure that is; nothing where nobody is ranked."""
        return self.standings["steps"].sentence

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """Who leads on each problem."""
        return verdicts(self.stored)

    @cached_property
    def headline(self) -> str:
        """Who leads where, in one sentence."""
        return headline(self.verdicts)

    @cached_property
    def standings(self) -> dict[str, Standing]:
        """Who stands where over all problems, on each axis."""
        return standings(self.newest, self.allow_unequal)

    @cached_property
    def tuning(self) -> list[str]:
        """How carefully each optimizer must be tuned."""
        return doubts.tuning(self.summary)

    @cached_property
    def doubts(self) -> list[str]:
        """What weakens the verdict."""
        found = doubts.weaknesses(self.problems, self.summary, self.stored, self.suite)
        found += unequal_searches(self.standings["steps"].certified)
        if self.allow_unequal:
            found += self.standings["steps"].unequal
        if self.passed_over:
            found.append(f"Files that could not be read: {listed(self.passed_over)}.")
        return found

    @cached_property
    def failures(self) -> list[doubts.Failure]:
        """What diverged or failed."""
        return doubts.failures(self.problems)

    def rows_of(self, row: dict[str, Any]) -> Frame:
        """The cells behind a row of the summary."""
        keys = (*PROBLEM, "optimizer")
        return self.newest.loc[self.places[tuple(str(row[name]) for name in keys)]]

    @cached_property
    def places(self) -> dict[tuple[str, ...], Any]:
        """Where the cells of each problem and optimizer are."""
        keys = [self.newest[name].astype(str) for name in (*PROBLEM, "optimizer")]
        groups = self.newest.index.to_series().groupby(keys, sort=False)
        return {tuple(map(str, key)): index for key, index in groups}

    def command(self, row: dict[str, Any]) -> str:
        """The run that computes a row of the summary again; two where rates outside the grid were added."""
        return " && ".join(self.runs(self.rows_of(row)))

    def runs(self, rows: Frame) -> list[str]:
        """The runs that compute some rows."""
        return reproduce.commands(rows, self.suite, self.selection.named, self.selection.results)

    @cached_property
    def environment(self) -> dict[str, str]:
        """What the rows were computed with."""
        return reproduce.environment(self.newest)

    @property
    def report_command(self) -> str:
        """What writes this report."""
        return self.selection.report_command() + " --allow-unequal" * self.allow_unequal

    @cached_property
    def commands(self) -> list[str]:
        """The runs that compute every row again, the claims that are shown, and this report."""
        runs = self.runs(self.newest)
        documents = ",".join(told.document.name for told in self.claims)
        return [*runs, *([f"optbench claims {documents}"] if documents else []), self.report_command]


def setting(problem: Problem) -> str:
    """How a problem was run, what decides on it, and where it comes from."""
    question = problem.question
    targets = ", ".join(
        f"{spoken(target.metric)} {number(target.value)}" + " (lanes stop there)" * target.final
        for target in question.targets
    )
    counted = f"Targets: {targets}; steps are counted to {spoken(question.main.metric)} {number(question.main.value)}."
    reported = f", reported by {spoken(question.score)}" if question.score != question.selection else ""
    return (
        f"{sentence(problem.rows.iloc[0].to_dict(), SETTING)}. Learning rate chosen by "
        f"{spoken(question.selection)}{reported}. {counted if targets else 'It declares no target.'}"
        + f" Source: {question.source}."
        * bool(question.source)
    )
