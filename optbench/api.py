"""The Python interface: the same names as the command line, for objects as well as for text."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optbench.cell import FINAL, Schedule
from optbench.execute.order import Order
from optbench.execute.request import Request
from optbench.execute.session import stages
from optbench.fields import UserError, nearest
from optbench.optimizer import Optimizer
from optbench.store import Store
from optbench.suite import Suite
from optbench.task import Task

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas as pd

OptimizerLike = str | Optimizer | type[Optimizer] | Callable[..., Any] | tuple[Any, ...]
"""Text, an Optimizer or its class, an optax transformation, a function that makes one, a torch.optim class."""
TaskLike = str | Task | type[Task]


class CellsFailed(UserWarning):
    """Some cells of a run failed; the others have rows."""


def run(
    opt: OptimizerLike | Sequence[OptimizerLike] | Mapping[str, OptimizerLike] | None = None,
    task: TaskLike | Sequence[TaskLike] | None = None,
    suite: str | PathLike[str] | Suite = "quickstart",
    *,
    axis: str | Sequence[str] | None = None,
    lr: float | Sequence[float] | None = None,
    metrics: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] | None = None,
    tuning: str | None = None,
    trials: int | None = None,
    fresh: bool = False,
    schedule: str | Schedule | Sequence[str | Schedule] | None = None,
    framework: str | None = None,
    dtype: str | None = None,
    precision: str | None = None,
    seeds: int | None = None,
    steps: int | Sequence[int] | None = None,
    data: str | PathLike[str] | None = None,
    device: str = "auto",
    jobs: int | None = None,
    executor: str = "processes",
    address: str | None = None,
    results: str | PathLike[str] = "results",
    shard: str | None = None,
    again: bool = False,
    paranoid: bool = False,
    timeout: float = 600.0,
    lanes: str | None = None,
    vet: bool = True,
    progress: bool | None = None,
    **unknown: Any,
) -> Result:
    """Run a suite and return its result; what the store has is not computed again.

    Args:
        opt: optimizers in place of the suite's; a dict gives them names.
        task: tasks in place of the suite's.
        suite: a name, a file or a Suite.
        progress: show it; None shows it on a terminal and in a notebook.

    The others are the options of `optbench run`.

    Raises:
        UserError: something that was asked for cannot be done.
    """
    options = {name: value for name, value in locals().items() if name not in ("progress", "unknown")}
    if unknown:
        name, known = next(iter(unknown)), [*options, "progress"]
        raise UserError(f"optbench.run has no option {name!r}. {nearest(name, known)}")
    lists = ("task", "axis", "lr", "metrics", "schedule", "steps")
    options |= {"opt": named(opt)} | {name: listed(options[name]) for name in lists}
    options |= {name: str(value) for name, value in options.items() if isinstance(value, PathLike)}
    request = Request(**options)
    order = Order.of(request)
    session = None
    for session in stages(order):
        with shown(session, progress) as show:
            for event in session.run():
                show(event)
    assert session is not None  # there is always a first stage
    result = Result(session.frame(), request.results, order.suite)
    if len(lost := result.failures):
        reasons = lost.groupby(["task", "optimizer", "status", "reason"], sort=False).size().reset_index()
        lines = ["{1} on {0}, {4} cells: {2}: {3}".format(*row) for row in reasons.to_numpy()]
        said = "\n".join([f"{len(lost)} of {len(result.frame)} cells failed.", *lines])
        warnings.warn(said, CellsFailed, stacklevel=2)
    return result


def load(results: str | PathLike[str] = "results", older: bool = False) -> Result:
    """Everything that a results folder has; with `older`, rows of older code too, under names of their own.

    Raises:
        UserError: nothing is stored there.
    """
    frame = Store(Path(results)).frame(older=older)
    if frame.empty:
        raise UserError(f"nothing is stored in {str(results)!r}. Run first: optbench run")
    return Result(frame[frame["twin"].isna()] if "twin" in frame else frame, str(results))


@dataclass
class Result:
    """What a run gave, or what is stored."""

    frame: pd.DataFrame
    """One row for each cell."""
    results: str = "results"
    suite: Suite | None = field(default=None, repr=False)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each task and optimizer: the comparison that `optbench run` prints."""
        from optbench.stats.summary import summarise

        return summarise(self.frame)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Every metric at every evaluation, long: task, optimizer, trial, seed, metric, step, value."""
        import pandas as pd

        keys = ["task", "optimizer", "framework", "trial", "seed"]
        columns = [name for name in map(str, self.frame) if name.startswith("evaluation.")]
        metrics = {name: name.removeprefix("evaluation.") for name in columns}
        parts = [
            pd.DataFrame(
                {key: row[key] for key in keys}
                | {"metric": metric, "step": row["evaluation_steps"], "value": row[name]}
            )
            for row in self.frame.to_dict("records")
            for name, metric in metrics.items()
            if hasattr(row[name], "__len__") and len(row[name])
        ]
        none = pd.DataFrame(columns=[*keys, "metric", "step", "value"])
        return pd.concat(parts, ignore_index=True) if parts else none

    @cached_property
    def failures(self) -> pd.DataFrame:
        """The cells that failed, with the reason and the whole traceback."""
        lost = self.frame if self.frame.empty else self.frame[~self.frame["status"].isin(FINAL)]
        columns = ["task", "optimizer", "framework", "trial", "seed", "status", "reason", "traceback"]
        return lost.reindex(columns=columns).reset_index(drop=True)

    def plot(self, metric: str | None = None) -> matplotlib.figure.Figure:
        """The median over seeds of each optimizer's best trial, a chart for each task."""
        from optbench.report.figures import plot

        return plot(self.frame, metric)

    def report(self, out: str | PathLike[str] = "reports", figures: bool = False) -> Path:
        """Write the page, the Markdown, the tables and, if asked, figures for print to a folder, which is returned."""
        from optbench.report.selection import Selection
        from optbench.report.write import write_report

        tasks, names = (list(dict.fromkeys(self.frame[kind])) for kind in ("task", "optimizer"))
        what = {"suite": self.suite or "quickstart", "opt": tuple(names), "task": tuple(tasks)}
        selection = Selection(results=self.results, **what)
        return write_report(self.results, str(out), selection, figures=figures)[0]

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False)

    def __repr__(self) -> str:
        from optbench.stats.summary import as_text

        return "no cells" if self.frame.empty else as_text(self.table)


def listed(value: Any) -> tuple[Any, ...] | None:
    """One thing or several as a tuple."""
    if value is None:
        return None
    several = isinstance(value, list | tuple) and not hasattr(value, "_fields")
    return tuple(value) if several else (value,)


def named(value: Any) -> tuple[Any, ...] | None:
    """One optimizer or several as a tuple, those of a dict with their names."""
    if not isinstance(value, Mapping):
        return listed(value)
    from optbench import catalogue

    found = {str(called): catalogue.optimizer(thing, str(called)) for called, thing in value.items()}
    for called, each in found.items():
        own = called == each.label()
        if not own and called != getattr(each, "called", None):
            raise UserError(f"optimizer {each.label()} has a name, and cannot be called {called!r}.")
        if not own and set(called) & set("[],"):
            raise UserError(f"the name {called!r} has a bracket or a comma. Leave them out.")
    return tuple(found.values())


def shown(session: Any, progress: bool | None) -> Any:
    """Progress on a terminal or in a notebook, or none."""
    import contextlib
    import sys

    terminal = getattr(sys.stdout, "isatty", bool)()  # None without a console
    wanted = terminal or "ipykernel" in sys.modules if progress is None else progress
    if not (wanted and session.programs):
        return contextlib.nullcontext(lambda event: None)
    from optbench.live import live

    return live(session)
