"""Which stored rows a report shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from optbench.execute.request import Shown
from optbench.fields import UserError, nearest, split_brackets
from optbench.optimizer import Optimizer
from optbench.record import IMPORTED
from optbench.report import reproduce, resolve
from optbench.report.look import order
from optbench.report.reproduce import rates_text, typed_names
from optbench.stats import Frame
from optbench.stats.curves import INTERVAL_FROM
from optbench.stats.settings import PROBLEM, SETTING, modern
from optbench.stats.stages import key, made_by, staged, unreported
from optbench.store import Store
from optbench.suite import Suite, several
from optbench.tuning import BLOCK, FRESH
from optbench.wording import command_line


@dataclass(frozen=True)
class Selection(Shown):
    """A suite's tasks with every stored optimizer at every setting, narrowed by what is given."""

    suite: Any = "quickstart"
    """A name, or a Suite."""

    def tuned_suite(self) -> Suite:
        toys = {} if self.trials is None else {"toy_trials": None}
        return dataclasses.replace(self.own, **self.beyond_suite, **toys)

    @cached_property
    def own(self) -> Suite:
        return resolve.suite(self.suite)

    @property
    def named(self) -> str:
        return self.suite.name if isinstance(self.suite, Suite) else self.suite

    def labels(self, kind: str, frame: Frame | Mapping[str, Collection[str]]) -> list[str] | None:
        """The given tasks or optimizers, as rows name them; by default the suite's tasks, and None: all optimizers."""
        texts = self.opt if kind == "optimizer" else self.task
        if texts is None and kind == "task" and self.suite == IMPORTED:
            return sorted(
                frame[IMPORTED] if isinstance(frame, Mapping) else imported_in(frame)["task"].unique()
            )
        if texts is None:
            return None if kind == "optimizer" else [task.label() for task in self.own.tasks]
        parts = [part for text in texts for part in split_brackets(text) if part]
        if not parts:
            raise UserError(f"no {kind} was given. Name at least one; see: optbench list {kind}s")
        stored = set(frame[kind]) if kind in frame else set()
        return [resolve.label(kind, part, stored) for part in parts]

    def found_in(self, store: Store) -> Selection:
        """This, or, where a folder has imported results only of what is selected, these as a suite of their own."""
        names = store.names()
        shown = set(self.labels("task", names) or ()) & names["task"]
        return (
            dataclasses.replace(self, suite=IMPORTED)
            if names[IMPORTED] and shown <= names[IMPORTED]
            else self
        )

    def read(self, store: Store) -> Frame:
        """Everything that is stored; UserError if that is nothing."""
        self.tuned_suite()
        if store.folder.is_file():
            raise UserError(
                f"results folder {str(store.folder)!r} is a file. Give another one with --results."
            )
        names = None if self.older else store.names()
        frame = store.frame(older=self.older, tasks=None if names is None else self.needed(names))
        for kind in ("task", "optimizer"):
            self.labels(kind, frame if names is None else names)  # wrong names are reported first
        if frame.empty:
            raise UserError(f"nothing is stored in {str(store.folder)!r}. Run first: {self.command()}")
        if "twin" in frame:  # of older versions: a comparison of frameworks
            frame = frame[frame["twin"].isna()]
        return modern(frame)

    def needed(self, names: Mapping[str, set[str]]) -> set[str] | None:
        """The tasks that are shown, and those of paths; None, which is all, where one that was named is not stored."""
        wanted = set(self.labels("task", names) or ())
        found = wanted & names["task"]
        return wanted | names["path"] if found and (found == wanted or self.task is None) else None

    def rows(self, frame: Frame, folder: Path) -> Frame:
        """The rows, by task as the suite lists them, then by setting, then by optimizer; UserError if none."""
        tasks = self.labels("task", frame) or []
        theirs, frame = imported_in(frame[frame["task"].isin(tasks)]), frame[frame["mode"] != IMPORTED]
        if len(frame) or theirs.empty:
            frame = self.in_stages(frame, folder) if self.staged(frame) else frame[frame["seed"] < BLOCK]
        frame = joined(frame, theirs)
        wanted = {"task": self.labels("task", frame), "optimizer": self.labels("optimizer", frame)}
        wanted |= {name: None if (value := getattr(self, name)) is None else [value] for name in SETTING}
        for name, values in wanted.items():
            if values is not None:
                frame = self.narrowed(frame, name, values, folder)
        return in_order(frame, wanted["task"] or [], self.own)

    def staged(self, frame: Frame) -> bool:
        """Whether rows are shown in stages: a run at given rates (`--lr`) has none, though its suite has."""
        asked = self.fresh or self.tuning is not None or self.trials is not None
        return self.tuned_suite().staged and (asked or bool((frame["seed"] >= FRESH).any()))

    def in_stages(self, frame: Frame, folder: Path) -> Frame:
        """The rows of the tuning ruleset, with their stages; UserError if a winner has not run."""
        suite = self.tuned_suite()
        shown = frame[frame["task"].isin(self.labels("task", frame) or [])]
        names = self.labels("optimizer", frame)
        wanted = untuned_in(shown, suite) if names is None else resolve.all_of(names)
        found = staged([shown], wanted, suite)
        missing = unreported(found)
        if found.empty or missing:
            task, optimizer = missing[0] if missing else ("", "")
            state = f"{suite.trials} trials ({suite.tuning}) are not stored"
            if missing:
                state = f"{optimizer} on {task} has not run with fresh seeds yet"
            raise UserError(f"{str(folder)!r}: {state}. Continue the run: {self.command()}")
        return found

    def narrowed(self, frame: Frame, name: str, values: list, folder: Path) -> Frame:
        """The rows whose column has one of the values; what is named explicitly must be stored."""
        stored = list(dict.fromkeys(frame[name]))
        missing = [value for value in values if value not in stored]
        explicit = name != "task" or self.task is not None
        if len(missing) == len(values) or (explicit and missing):
            word = name.replace("_kind", "")
            raise UserError(
                f"{str(folder)!r} has no rows of {word} {', '.join(map(str, missing))}. "
                f"{nearest(str(missing[0]), map(str, stored))} Or run: {self.command()}"
            )
        return frame[frame[name].isin(values)]

    def command(self) -> str:
        given = {"opt": self.opt, "task": self.task, "steps": self.steps}
        return command_line("run", suite=self.named, **given, **self.ruleset(), **self.where)

    def ruleset(self) -> dict[str, Any]:
        return {"tuning": self.tuning, "trials": self.trials, "fresh": self.fresh or None}

    @property
    def beyond_suite(self) -> dict[str, Any]:
        """Of the ruleset what the suite does not say itself."""
        given = {name: value for name, value in self.ruleset().items() if value is not None}
        toys = bool(self.own.toy_trials)  # a number of trials is theirs too
        return {
            name: value
            for name, value in given.items()
            if value != getattr(self.own, name) or (toys and name == "trials")
        }

    @property
    def where(self) -> dict[str, str]:
        return {} if self.results == "results" else {"results": self.results}

    def report_command(self, **more: Any) -> str:
        narrow = {name: getattr(self, name) for name in SETTING}
        options = (
            {name.replace("_", "-"): value for name, value in narrow.items()} | self.ruleset() | self.where
        )
        return command_line("report", suite=self.named, opt=self.opt, task=self.task, **options, **more)

    def next_command(self, rows: Frame, table: Frame, seeded: Collection[str], paths: bool) -> str:
        """A command that adds to the report: missing tasks, more seeds where the task is seeded, paths."""
        if self.suite == IMPORTED:
            return command_line("export", **self.where, to="curves.csv")
        names: dict[str, str] = typed_names(rows, self.named)
        stored = [names.get(str(label), str(label)) for label in dict.fromkeys(table["optimizer"])]
        how = {"opt": stored, **self.ruleset(), **self.setting_of(rows), **self.where}
        missing = [label for label in self.labels("task", table) or [] if label not in set(table["task"])]
        if missing:
            return command_line("run", suite=self.named, task=missing, **how)
        few = table.loc[table["seeds"] < INTERVAL_FROM, "task"]
        if few := [names.get(label, label) for label in dict.fromkeys(few) if label in seeded]:
            return command_line("run", suite=self.named, task=few, **how, seeds=INTERVAL_FROM)
        if not paths and not any(":" in name for name in stored):
            return command_line("run", suite="paths", opt=stored, **self.where)
        return f"optbench show {stored[0].partition('[')[0]}"

    def setting_of(self, rows: Frame) -> dict[str, Any]:
        """The options of a run at the setting of the first row, where they differ from the suite's."""
        options = reproduce.options_of(rows.iloc[:1], self.tuned_suite(), "")[0]
        rates = sorted(set(rows["trial"].dropna()))
        plain = {
            name: value for name, value in options.items() if name not in ("lr", "seeds", *self.ruleset())
        }
        few = len(rates) < self.tuned_suite().trials and "stage" not in rows
        return plain | ({"lr": rates_text(rates)} if few and rates else {})


def imported_in(frame: Frame) -> Frame:
    """The rows that were not run here; without the columns of stages where none has one."""
    rows = frame[frame["mode"] == IMPORTED]
    return rows.drop(columns=["stage", "hyperparameters"], errors="ignore") if no_stages(rows) else rows


def no_stages(rows: Frame) -> bool:
    return "stage" not in rows or bool(rows["stage"].isna().all())


def joined(own: Frame, imported: Frame) -> Frame:
    """Both; UserError where some have chosen on other seeds than they report and some have not."""
    if own.empty or imported.empty:
        own = imported if own.empty else own
        mixed = "stage" in own and own["stage"].isna().any()
    else:
        mixed = no_stages(own) != no_stages(imported)
        own = pd.concat([own, imported], ignore_index=True)
    if mixed:
        raise UserError(
            "some imported rows have a stage and other rows have none, so they cannot share a table. "
            f"Narrow them with --task or --suite {IMPORTED}."
        )
    return own


def untuned_in(frame: Frame, suite: Suite) -> list[Optimizer]:
    """The optimizers of a tuned run: with fresh seeds they also ran untuned."""
    fresh = frame[frame["seed"] >= FRESH]
    made = set(fresh["spec"].map(made_by))
    found = {key(each.spec()): each for each in resolve.all_of(fresh["optimizer"].unique())}
    found = {own: each for own, each in found.items() if own in made}
    # A winner whose label shows its hyperparameters resembles another optimizer of that label.
    trials = ((each, trial.at) for each in found.values() for trial in suite.trials_of(each))
    tried = {key(at.spec()) for each, at in trials if at != each}
    return [each for own, each in found.items() if own not in tried]


def in_order(frame: Frame, task_labels: Sequence[str], suite: Suite) -> Frame:
    """Tasks in the given order, the suite's own setting before others, optimizers as the catalogue has them."""
    places = {label: i for i, label in enumerate(task_labels)}
    schedules = [each.label() for each in several(suite.schedule)]
    own = [suite.framework, suite.dtype, suite.precision]
    names = order(frame["optimizer"])
    keys = pd.DataFrame(
        {
            "task": frame["task"].map(places),
            "own": (frame[["framework", "dtype", "precision"]] != own).any(axis=1)
            | ~frame["schedule"].isin(schedules),
            **{name: frame[name].astype(str) for name in PROBLEM[1:] if name != "steps"},
            "steps": -frame["steps"],
            "optimizer": frame["optimizer"].map(names.index),
            "trial": frame["trial"],
            "stage": frame.get("stage", ""),
            "seed": frame["seed"],
            "created": frame["created"],
        }
    )
    return frame.loc[keys.sort_values(list(keys.columns), kind="stable").index].reset_index(drop=True)
