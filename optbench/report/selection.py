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
from optbench.report.reproduce import SUITES_OWN, rates_text
from optbench.stats import Frame
from optbench.stats.settings import SETTING, modern
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
        if texts is None and kind == "optimizer":
            return None
        if texts is None and self.suite == IMPORTED:
            theirs = frame[IMPORTED] if isinstance(frame, Mapping) else imported_in(frame)["task"].unique()
            return sorted(theirs)
        if texts is None:
            return [task.label() for task in self.own.tasks]
        parts = [part for text in texts for part in split_brackets(text) if part]
        if not parts:
            raise UserError(f"no {kind} was given. Name at least one; see: optbench list {kind}s")
        stored = set(frame[kind]) if kind in frame else set()
        return [resolve.label(kind, part, stored) for part in parts]

    def found_in(self, store: Store) -> Selection:
        """This, or, where a folder has imported results only of what is selected, these as a suite of their own."""
        names = store.names()
        theirs, shown = names[IMPORTED], set(self.labels("task", names) or ()) & names["task"]
        return dataclasses.replace(self, suite=IMPORTED) if theirs and shown <= theirs else self

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
            state = f"{suite.trials} trials ({suite.tuning}) are not stored"
            for task, optimizer in missing[:1]:
                state = f"{optimizer} on {task} has not run with fresh seeds yet"
            raise UserError(f"{str(folder)!r}: {state}. Continue the run: {self.command(frame)}")
        return found

    def left_out(self, frame: Frame, rows: Frame) -> tuple[str, ...]:
        """The names of a user's own optimizers that ran with fresh seeds and are not among the rows that are shown."""
        fresh = frame[(frame["seed"] >= FRESH) & frame["task"].isin(rows["task"])]
        ran, shown = (
            {label.partition("[")[0] for label in each["optimizer"].unique()} for each in (fresh, rows)
        )
        return tuple(sorted(name for name in ran - shown if ":" in name))

    def narrowed(self, frame: Frame, name: str, values: list, folder: Path) -> Frame:
        """The rows whose column has one of the values; what is named explicitly must be stored."""
        stored = list(dict.fromkeys(frame[name]))
        missing = [value for value in values if value not in stored]
        explicit = name != "task" or self.task is not None
        if len(missing) == len(values) or (explicit and missing):
            what = f"{name.replace('_kind', '')} {', '.join(map(str, missing))}"
            near = nearest(str(missing[0]), map(str, stored))
            raise UserError(f"{str(folder)!r} has no rows of {what}. {near} Or run: {self.command(frame)}")
        return frame[frame[name].isin(values)]

    def command(self, rows: Frame | None = None) -> str:
        """The run of what is selected; labels of rows become what one types."""
        typed = {} if rows is None else reproduce.typed_names(rows, self.named)
        chosen = {kind: [typed.get(text, text) for text in texts] if texts else texts
                  for kind, texts in (("opt", self.opt), ("task", self.task))}  # fmt: skip
        given = {**chosen, "steps": self.steps, **self.ruleset()}
        return command_line("run", suite=self.named, **given, results=self.results)

    def ruleset(self) -> dict[str, Any]:
        return {"tuning": self.tuning, "trials": self.trials, "fresh": self.fresh or None}

    @property
    def beyond_suite(self) -> dict[str, Any]:
        """Of the ruleset what the suite does not say itself."""
        same = {name: getattr(self.own, name) for name in self.ruleset()}
        same |= {"trials": None} if self.own.toy_trials else {}  # a number of trials is theirs too
        return {name: value for name, value in self.ruleset().items() if value not in (None, same[name])}

    def report_command(self, **more: Any) -> str:
        narrow = {name.replace("_", "-"): getattr(self, name) for name in SETTING}
        options = {**narrow, **self.ruleset(), "results": self.results, **more}
        return command_line("report", suite=self.named, opt=self.opt, task=self.task, **options)

    def setting_of(self, rows: Frame) -> dict[str, Any]:
        """The options of a run at the setting of the first row, where they differ from the suite's."""
        options = reproduce.options_of(rows.iloc[:1], self.tuned_suite(), "")[0]
        rates = sorted(set(rows["trial"].dropna()))
        ours = {"lr", "seeds", *self.ruleset()}
        plain = {name: value for name, value in options.items() if name not in ours}
        few = len(rates) < self.tuned_suite().trials and "stage" not in rows
        one = ["task", "optimizer", "schedule", "steps"]
        own = rows[(rows[one] == rows[one].iloc[0]).all(axis=1)]
        plain |= reproduce.fewer_trials(own, self.tuned_suite(), str(own["optimizer"].iloc[0]))
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
        both = imported if own.empty else own
        mixed = "stage" in both and both["stage"].isna().any()
    else:
        both = pd.concat([own, imported], ignore_index=True)
        mixed = no_stages(own) != no_stages(imported)
    if mixed:
        raise UserError(
            "some imported rows have a stage and other rows have none, so they cannot share a table. "
            f"Narrow them with --task or --suite {IMPORTED}."
        )
    return both


def untuned_in(frame: Frame, suite: Suite) -> list[Optimizer]:
    """The optimizers of a tuned run: with fresh seeds they also ran untuned."""
    fresh = frame[frame["seed"] >= FRESH]
    made = set(fresh["spec"].map(made_by))
    named = {key(each.spec()): each for each in resolve.all_of(fresh["optimizer"].unique())}
    found = {own: each for own, each in named.items() if own in made}
    # A winner whose label shows its hyperparameters resembles another optimizer of that label.
    trials = ((each, trial.at) for each in found.values() for trial in suite.trials_of(each))
    tried = {key(at.spec()) for each, at in trials if at != each}
    return [each for own, each in found.items() if own not in tried]


def in_order(frame: Frame, task_labels: Sequence[str], suite: Suite) -> Frame:
    """Tasks in the given order, the suite's own setting before others, optimizers as the catalogue has them."""
    places = {label: i for i, label in enumerate(task_labels)}
    schedules = [each.label() for each in several(suite.schedule)]
    own = [getattr(suite, name) for name in SUITES_OWN]
    names = order(frame["optimizer"])
    settings = [name for name in SETTING if name != "steps"]
    other = (frame[[*SUITES_OWN]] != own).any(axis=1) | ~frame["schedule"].isin(schedules)
    keys = frame[[*settings, "trial", "seed", "created"]].astype(dict.fromkeys(settings, str))
    keys = keys.assign(task=frame["task"].map(places), other=other, steps=-frame["steps"])
    keys = keys.assign(optimizer=frame["optimizer"].map(names.index), stage=frame.get("stage", ""))
    by = ["task", "other", *settings, "steps", "optimizer", "trial", "stage", "seed", "created"]
    return frame.loc[keys.sort_values(by, kind="stable").index].reset_index(drop=True)
