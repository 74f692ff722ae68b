"""Which stored rows a report shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from optbench.fields import UserError, nearest, split_brackets
from optbench.optimizer import Optimizer
from optbench.report import reproduce, resolve
from optbench.report.look import order
from optbench.report.reproduce import command_line, typed_names
from optbench.stats import Frame
from optbench.stats.curves import INTERVAL_FROM
from optbench.stats.settings import PROBLEM, SETTING, modern
from optbench.stats.stages import key, made_by, staged, unreported
from optbench.store import Store
from optbench.suite import Suite
from optbench.tuning import BLOCK, FRESH

NARROW = SETTING
"""The columns by which a report can be narrowed, besides tasks and optimizers."""


@dataclass(frozen=True)
class Selection:
    """A suite's tasks, every optimizer that is stored for them, at every setting; or less, where asked for."""

    suite: str | Suite = "quickstart"
    opt: Sequence[str] | None = None
    task: Sequence[str] | None = None
    schedule: str | None = None
    framework: str | None = None
    dtype: str | None = None
    precision: str | None = None
    steps: int | None = None
    device_kind: str | None = None
    tuning: str | None = None
    trials: int | None = None
    fresh: bool = False
    results: str = "results"
    older: bool = False
    """Show rows of older code too, under names of their own."""

    def tuned_suite(self) -> Suite:
        """The suite, with the tuning ruleset that was asked for in place of its own."""
        changes = {"tuning": self.tuning, "trials": self.trials, "fresh": self.fresh or None}
        given = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(self.own, **given)

    @cached_property
    def own(self) -> Suite:
        """The suite, as it is."""
        return resolve.suite(self.suite)

    @property
    def named(self) -> str:
        """The suite as one types it."""
        return self.suite.name if isinstance(self.suite, Suite) else self.suite

    def labels(self, kind: str, frame: Frame) -> list[str] | None:
        """The tasks or optimizers asked for, as rows name them; all tasks of the suite unless said."""
        texts = self.opt if kind == "optimizer" else self.task
        if texts is None:
            suite_tasks = [task.label() for task in self.own.tasks]
            return None if kind == "optimizer" else suite_tasks
        parts = [part for text in texts for part in split_brackets(text) if part]
        if not parts:
            raise UserError(f"no {kind} was given. Name at least one; see: optbench list {kind}s")
        there = set() if frame.empty else set(frame[kind])
        return [resolve.label(kind, part, there) for part in parts]

    def read(self, store: Store) -> Frame:
        """Everything that is stored; UserError if that is nothing."""
        self.tuned_suite()
        if store.folder.is_file():
            raise UserError(
                f"results folder {str(store.folder)!r} is a file. Give another one with --results."
            )
        frame = store.frame(older=self.older)
        for kind in ("task", "optimizer"):
            self.labels(kind, frame)  # what is wrong with a name is said first
        if frame.empty:
            raise UserError(f"nothing is stored in {str(store.folder)!r}. Run first: {self.command()}")
        if "twin" in frame:  # cells of a comparison of frameworks, which `optbench run` judges
            frame = frame[frame["twin"].isna()]
        return modern(frame)

    def rows(self, frame: Frame, folder: Path) -> Frame:
        """The rows, by task as the suite lists them, then by setting, then by optimizer; UserError if none."""
        frame = self.in_stages(frame, folder) if self.tuned_suite().staged else frame[frame["seed"] < BLOCK]
        wanted = {"task": self.labels("task", frame), "optimizer": self.labels("optimizer", frame)}
        wanted |= {name: None if (value := getattr(self, name)) is None else [value] for name in NARROW}
        for name, values in wanted.items():
            if values is not None:
                frame = self.narrowed(frame, name, values, folder)
        return in_order(frame, wanted["task"] or [], self.own)

    def in_stages(self, frame: Frame, folder: Path) -> Frame:
        """The rows that the tuning ruleset made, with their stages; UserError if a winner has not run."""
        suite = self.tuned_suite()
        shown = frame[frame["task"].isin(self.labels("task", frame) or [])]
        names = self.labels("optimizer", frame)
        asked = untuned_in(shown, suite) if names is None else resolve.all_of(names)
        found = staged([shown], asked, suite.tuning, suite.trials)
        missing = unreported(found)
        if found.empty or missing:
            what = (
                f"{missing[0][1]} on {missing[0][0]}"
                if missing
                else f"{suite.trials} trials ({suite.tuning})"
            )
            state = "has not run with fresh seeds yet" if missing else "are not stored"
            raise UserError(f"{str(folder)!r}: {what} {state}. The same run goes on: {self.command()}")
        return found

    def narrowed(self, frame: Frame, name: str, values: list, folder: Path) -> Frame:
        """The rows whose column has one of the values; what was asked for by name must be there."""
        there = list(dict.fromkeys(frame[name]))
        missing = [value for value in values if value not in there]
        said = name != "task" or self.task is not None
        if len(missing) == len(values) or (said and missing):
            word = name.replace("_kind", "")
            raise UserError(
                f"{str(folder)!r} has no rows of {word} {', '.join(map(str, missing))}. "
                f"{nearest(str(missing[0]), map(str, there))} Or run: {self.command()}"
            )
        return frame[frame[name].isin(values)]

    def command(self) -> str:
        """The run whose rows would be shown."""
        given = {"opt": self.opt, "task": self.task, "steps": self.steps}
        return command_line("run", suite=self.named, **given, **self.ruleset(), **self.where)

    def ruleset(self) -> dict[str, Any]:
        """The options that say how trials were chosen."""
        return {"tuning": self.tuning, "trials": self.trials, "fresh": self.fresh or None}

    @property
    def where(self) -> dict[str, str]:
        """The option that says where results are kept."""
        return {} if self.results == "results" else {"results": self.results}

    def report_command(self, **more: Any) -> str:
        """This report."""
        narrow = {name: getattr(self, name) for name in NARROW}
        options = {name.replace("_", "-"): value for name, value in narrow.items()}
        return command_line(
            "report",
            suite=self.named,
            opt=self.opt,
            task=self.task,
            **options,
            **self.ruleset(),
            **self.where,
            **more,
        )

    def next_command(self, rows: Frame, table: Frame, seeded: Collection[str], paths: bool) -> str:
        """What would make the report say more: missing tasks, more seeds where any are drawn, paths to look at."""
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
        """The options of a run at the setting of the first row, where they are not the suite's."""
        first = rows.iloc[0]
        options = reproduce.options_of(rows.iloc[:1], self.tuned_suite(), "")[0]
        rates = sorted(set(rows["trial"].dropna()))
        plain = {
            name: value for name, value in options.items() if name not in ("seeds", "lr", *self.ruleset())
        }
        few = len(rates) < self.tuned_suite().trials and "stage" not in first.index
        return {**plain, **({"lr": ",".join(f"{rate:g}" for rate in rates)} if few and rates else {})}


def untuned_in(frame: Frame, suite: Suite) -> list[Optimizer]:
    """The optimizers that a tuned run was asked for: with fresh seeds they also ran as they are."""
    fresh = frame[frame["seed"] >= FRESH]
    made = set(fresh["spec"].map(made_by))
    found = {key(each.spec()): each for each in resolve.all_of(fresh["optimizer"].unique())}
    found = {own: each for own, each in found.items() if own in made}
    # What won with a number that its label shows looks like another optimizer, asked for by that label.
    tried = {
        key(trial.at.spec()) for each in found.values() for trial in suite.trials_of(each) if trial.at != each
    }
    return [each for own, each in found.items() if own not in tried]


def in_order(frame: Frame, task_labels: Sequence[str], suite: Suite) -> Frame:
    """Tasks in the given order, the suite's own setting before others, optimizers as the catalogue has them."""
    places = {label: i for i, label in enumerate(task_labels)}
    own = [suite.schedule.label(), suite.framework, suite.dtype, suite.precision]
    names = order(frame["optimizer"])
    keys = pd.DataFrame(
        {
            "task": frame["task"].map(places),
            "own": [
                list(row) != own for row in frame[["schedule", "framework", "dtype", "precision"]].to_numpy()
            ],
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
