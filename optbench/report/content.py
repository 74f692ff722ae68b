"""The rows that a report shows, and what follows from them; panels say it, as plain text that each writer escapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from optbench.record import IMPORTED
from optbench.report import caveats, charts, reproduce, resolve
from optbench.report.documents import Findings, measured
from optbench.report.look import Grey, Look, looks, order
from optbench.report.paths import Terrain, terrains
from optbench.report.problem import Problem, problems
from optbench.report.selection import Selection
from optbench.report.standing import Standing, standings
from optbench.stats import Frame
from optbench.stats.budgets import unequal_searches
from optbench.stats.curves import INTERVAL_FROM
from optbench.stats.settings import NEEDED, PROBLEM, labels, newest
from optbench.stats.stages import staged_note, with_untuned
from optbench.stats.summary import summarise
from optbench.stats.verdict import Verdict, headline, verdicts
from optbench.store import Store
from optbench.suite import Suite
from optbench.wording import command_line, count, listed

FILES = ("table.csv", "curves.csv", "table.tex")
"""What a report links to: a row for each problem and optimizer, the numbers of the curves, the table for a paper."""
BEST = 6
"""How many of many optimizers are drawn in colour, until the reader selects others."""


@dataclass(frozen=True)
class Content:
    """The rows of a report, and what was selected."""

    selection: Selection
    stored: Frame
    terrains: tuple[Terrain, ...] = ()
    """Paths of the same optimizers, where they are stored."""
    claims: tuple[Findings, ...] = ()
    """Measured claims of the documents of these optimizers."""
    unreadable: tuple[str, ...] = ()
    """Result files that could not be read."""
    left_out: tuple[str, ...] = ()
    """A user's own optimizers whose rows could not be told apart into stages, since their code is not here."""
    allow_unequal: bool = False
    """Whether optimizers are ranked although their budgets differ."""
    figures: bool = False
    """Whether every chart is also drawn for print, which takes longer than all the rest."""

    @classmethod
    def of(
        cls, selection: Selection, store: Store, allow_unequal: bool = False, figures: bool = False
    ) -> Content:
        """What a store has for a selection; UserError if that is nothing."""
        selection = selection.found_in(store)
        frame = selection.read(store)
        rows = selection.rows(frame, store.folder)
        claims = measured(store.folder, rows["optimizer"].unique())
        found = tuple(terrains(frame, rows)), tuple(claims), tuple(sorted(store.passed_over))
        left = selection.left_out(frame, rows) if "stage" in rows and selection.opt is None else ()
        return cls(selection, rows, *found, left, allow_unequal, figures)

    @cached_property
    def suite(self) -> Suite:
        """The suite with the tuning that is shown."""
        return self.selection.tuned_suite()

    @cached_property
    def question(self) -> str:
        """The first line of the suite's docstring; of chosen tasks, what they are."""
        if self.selection.task is not None:
            names = list(dict.fromkeys(self.stored["task"]))
            return f"Which optimizer for {listed(names) if len(names) < 4 else count(len(names), 'task')}?"
        return resolve.docstring(self.selection.suite).partition("\n")[0] or self.suite.name

    @cached_property
    def about(self) -> list[str]:
        """The paragraphs after the question; those that are indented are commands. They speak of all of the tasks."""
        if self.selection.task is not None:
            return []
        rest = resolve.docstring(self.selection.suite).partition("\n")[2]
        return [part.strip("\n") for part in rest.split("\n\n") if part.strip()]

    @cached_property
    def problems(self) -> list[Problem]:
        """Real tasks before toys."""
        return sorted(problems(self.newest, self.outcomes), key=lambda problem: problem.question.toy)

    @cached_property
    def optimizers(self) -> list[str]:
        return order(self.stored["optimizer"])

    @cached_property
    def looks(self) -> dict[str, Look]:
        return looks(self.optimizers)

    @cached_property
    def lit(self) -> list[str]:
        """The optimizers that are drawn in colour: all, or of many those that rank best."""
        standing = self.standings["steps"]
        if len(self.optimizers) <= charts.MANY:
            return self.optimizers
        return self.optimizers[:BEST] if standing.refusals else standing.ranks["optimizer"].tolist()[:BEST]

    @cached_property
    def drawn(self) -> list[Look]:
        """The look of each optimizer in a figure for print: grey for those that are not lit."""
        return [look if name in self.lit else Grey(*look) for name, look in self.looks.items()]

    @cached_property
    def curves(self) -> Frame:
        """The numbers of the curves, as drawn; docs/columns.md has the columns of curves.csv."""
        parts = {
            (problem.name, name, problem.best[name]["trial"].iloc[0], metric): charts.thinned(curve)
            for problem in self.problems for metric in problem.metrics
            for name, curve in problem.curves[metric].items() if len(curve)
        }  # fmt: skip
        keys = pd.DataFrame(parts.keys(), columns=["problem", "optimizer", "learning_rate", "metric"])
        keys = keys.loc[keys.index.repeat([*map(len, parts.values())])].reset_index(drop=True)
        none = pd.DataFrame(columns=["step", "middle", "low", "high"])
        numbers = pd.concat([*parts.values()], ignore_index=True) if parts else none
        return pd.concat([keys, numbers.rename(columns={"middle": "median"})], axis="columns")

    @cached_property
    def places(self) -> dict[str, int]:
        """By which charts refer to optimizers."""
        return {name: place for place, name in enumerate(self.optimizers)}

    @cached_property
    def charts(self) -> list[dict[str, Any]]:
        return charts.of_problems(self.problems, self.summary, self.outcomes, self.places)

    @cached_property
    def newest(self) -> Frame:
        """One row for each cell."""
        return newest(self.stored)

    @property
    def outcomes(self) -> Frame:
        """One row of numbers for each cell."""
        return self.standings["steps"].outcomes

    @cached_property
    def summary(self) -> Frame:
        """One row for each problem and optimizer, with the commands that compute it."""
        table = summarise(self.stored, self.outcomes)
        table.insert(0, "problem", labels(table))
        keys = zip(table["problem"], table["optimizer"], strict=True)
        return table.assign(command=[" && ".join(self.commands_of(self.runs[key])) for key in keys])

    @cached_property
    def with_untuned(self) -> Frame:
        """The summary, with a row for each untuned optimizer where there are stages."""
        table = with_untuned(self.summary, self.stored)
        return table.assign(problem=labels(table))

    @property
    def staged(self) -> bool:
        """Whether trials were chosen on other seeds than those reported."""
        return "stage" in self.stored

    @property
    def searched(self) -> bool:
        """Whether any optimizer ran more than one trial."""
        return bool((self.summary["trials"] > 1).any())

    @property
    def selected(self) -> str:
        """Which seeds chose and which are reported; '' where nothing was chosen."""
        if self.searched and self.staged:
            return staged_note(self.stored)
        again = "optbench run --fresh, or --tuning quasi, reports on fresh seeds."
        return f"{caveats.SAME_SEEDS} {again}" if self.searched else ""

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """In the order of `problems`."""
        found = verdicts(self.newest, self.standings["steps"].best)
        return sorted(found, key=lambda verdict: verdict.question.toy)

    @cached_property
    def headline(self) -> str:
        return headline(self.verdicts)

    @cached_property
    def kinds(self) -> dict[str, dict[str, Standing]]:
        """The ranking over real tasks and that over toys, as far as there are any, on each axis, steps first."""
        return standings(self.newest, self.allow_unequal)

    @property
    def standings(self) -> dict[str, Standing]:
        """On each axis: over real tasks, or over toys where there are none."""
        return next(iter(self.kinds.values()))

    @cached_property
    def caveats(self) -> list[str]:
        """What limits the verdict."""
        lines = [*caveats.caveats(self.problems, self.summary, self.stored, self.suite)]
        lines += unequal_searches(self.standings["steps"].certified)
        if self.allow_unequal:
            lines += [text for axes in self.kinds.values() for text in axes["steps"].differing["says"]]
        if self.left_out:
            lines.append(
                f"Left out: {listed(self.left_out)}, whose newest rows are of other code than is here. Run it again "
                "(--again), or make the report where that code is."
            )
        if self.unreadable:
            lines.append(f"Skipped unreadable files: {listed(self.unreadable)}.")
        return lines

    @cached_property
    def runs(self) -> dict[tuple[str, str], list[reproduce.Run]]:
        """What computes the cells of each problem and optimizer."""
        asked = self.selection
        rows = self.newest[self.newest.columns.intersection([*PROBLEM, *NEEDED, IMPORTED])]
        parts: Any = rows.groupby([labels(rows), "optimizer"], sort=False)
        return {key: reproduce.runs(own, self.suite, asked.named, asked.beyond_suite) for key, own in parts}

    @cached_property
    def typed(self) -> dict[str, str]:
        """What one types for a task or an optimizer, by its label."""
        return reproduce.typed_names(self.newest, self.selection.named)

    def next_command(self) -> str:
        """A command that adds to the report: missing tasks, more seeds where the task is seeded, paths."""
        asked, table, results = self.selection, self.summary, {"results": self.selection.results}
        if asked.suite == IMPORTED:
            return command_line("export", **results, to="curves.csv")
        seeded = {problem.rows["task"].iloc[0] for problem in self.problems if problem.question.seeded}
        few = table[(table["seeds"] < INTERVAL_FROM) & table["task"].isin(seeded)]
        framework = (table if few.empty else few)["framework"].iloc[0]  # one for each run
        few, here, rows = (each[each["framework"] == framework] for each in (few, table, self.newest))
        labels = list(map(str, dict.fromkeys(here["optimizer"])))
        today = [label for label in labels if not label.endswith(")")]  # without those of older code or data
        stored = list(dict.fromkeys(self.typed.get(label, label) for label in today or labels))
        how = {"opt": stored, **asked.ruleset(), **asked.setting_of(rows), **results}
        missing = [label for label in asked.labels("task", table) or [] if label not in set(table["task"])]
        if missing:
            return command_line("run", suite=asked.named, task=missing, **how)
        if tasks := [self.typed.get(label, label) for label in dict.fromkeys(few["task"])]:
            return command_line("run", suite=asked.named, task=tasks, **how, seeds=INTERVAL_FROM)
        if not self.terrains and not any(":" in name for name in stored):
            return command_line("run", suite="paths", opt=stored, **results)
        return f"optbench show {stored[0].partition('[')[0]}"

    def commands_of(self, runs: Iterable[reproduce.Run]) -> list[str]:
        return reproduce.commands(runs, self.selection.named, self.selection.results)

    @property
    def counts(self) -> list[str]:
        """How many tasks, optimizers and cells there are."""
        cells = int(self.summary["lanes"].sum())
        numbers = {"task": self.stored["task"].nunique(), "optimizer": len(self.optimizers), "cell": cells}
        return [count(number, noun) for noun, number in numbers.items()]

    @cached_property
    def environment(self) -> dict[str, str]:
        return reproduce.environment(self.newest)

    @property
    def report_command(self) -> str:
        options = " --allow-unequal" * self.allow_unequal + " --figures" * self.figures
        return self.selection.report_command() + options

    @cached_property
    def commands(self) -> list[str]:
        """The commands that reproduce every row, the paths and claims that are shown, and this report."""
        documents = ",".join(each.document.name for each in self.claims)
        claims = [f"optbench claims {documents}"] if documents else []
        drawn = order(path.optimizer for terrain in self.terrains for path in terrain.paths)
        options = {"opt": [self.typed[name] for name in drawn], "results": self.selection.results}
        paths = [command_line("run", suite="paths", **options)] if drawn else []
        runs = self.commands_of(run for runs in self.runs.values() for run in runs)
        return [*runs, *paths, *claims, self.report_command]
