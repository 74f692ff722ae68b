"""`optbench report`: what is stored for a suite, as a page of Markdown with figures and a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from optbench import suite as suites
from optbench.core import Status, UserError
from optbench.report import claims, reproduce, verdict
from optbench.report.markdown import code, escape, listed, plain, slug, table
from optbench.report.problem import Problem, problems, spoken
from optbench.report.selection import Selection
from optbench.stats import Frame
from optbench.stats.curves import INTERVAL_FROM
from optbench.stats.settings import SETTING, labels, newest, sentence
from optbench.stats.summary import compact, main_target, summarise, texts
from optbench.store import Store

HEADER = (
    "task", "optimizer", "best lr", "final loss", "test error", "steps",
    "decades", "us/step", "state/param", "diverged", "seeds", "grads/step",
)  # fmt: skip
HOW_TO_READ = f"""\
- **Curves**: the median over seeds at the optimizer's best learning rate. The band is the 95 % bootstrap interval of
  the median, or min-max with fewer than {INTERVAL_FROM} seeds. A lane that diverged or failed counts as infinite from
  there on, and a cross at the top edge marks where it ended. A curve stops where the median reached the final target;
  lanes stop there. Dashed grey lines are targets.
- **Final, by learning rate**: one point for each learning rate of the grid, a bar for the interval (or min-max), a
  ring around the best. A cross in the grey strip: lanes diverged or failed there, a small cross if fewer than half.
  An open triangle: the value is off the scale. Points are moved a little sideways so that bars do not hide each other.
- **best lr**: the least median of the selection metric, or the fewest steps to the final target; `*` at the edge of
  the grid. **steps**: to the target named with each task. **decades**: the longest run of learning rates whose median
  seed reaches the task's first target; `≥` where it meets the edge of the grid, `-` if none does.
- **us/step**: of one lane, without compilation and evaluation. **state/param**: floats of state for each parameter.
  **diverged**: lanes that diverged, of all; `+n!` lanes that failed. **grads/step**: gradient equivalents, where a
  Hessian-vector product counts 2.
- **Tie**: the ranges overlap. That does not say that two methods are equal, only that these seeds cannot tell."""


def write_report(results: str, out: str, suite: str, **narrow: Any) -> str:
    """Write the report to <out>/<suite>/ and say what was written.

    Args:
        results: the folder that results are kept in.
        out: the folder that reports go to.
        suite: a suite's name, or a Python file that defines one.
        narrow: the fields of `Selection` that leave rows out.

    Raises:
        UserError: nothing is stored that could be shown, or the folder cannot be written to.
    """
    store, selection = Store(results), Selection(suite, **narrow)
    stored = selection.rows(store)
    shown = problems(stored)
    files = figures(shown)
    summary = summarise(stored)
    summary.insert(0, "problem", labels(summary))
    folder = Path(out) / slug(suites.load(suite).name)
    said, drawn = claims.section(results, summary["optimizer"], prefix="claims-")
    page = index(selection, shown, summary, stored, store, said)
    save(
        folder,
        {
            **files,
            **drawn,
            "table.csv": summary.to_csv(index=False, float_format="%.6g").encode(),
            "index.md": page.encode(),
        },
    )
    return closing(folder, selection, shown, summary, len(files) + len(drawn))


def save(folder: Path, files: dict[str, bytes]) -> None:
    """All files, the page last, so that it never names a figure that is not there."""
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise UserError(
            f"report folder {str(folder)!r} cannot be written: {error.strerror}. Give another --out."
        ) from error


def figures(shown: Sequence[Problem]) -> dict[str, bytes]:
    """Every figure as SVG and PNG, by path."""
    from optbench.report import figures as draw

    found: dict[str, bytes] = {}
    with draw.style():
        drawn = {"overview": draw.overview(shown)}
        for problem in shown:
            drawn[f"{slug(problem.name)}-curves"] = draw.curves(problem)
            drawn[f"{slug(problem.name)}-sensitivity"] = draw.sensitivities(problem)
        for name, figure in drawn.items():
            found |= {f"figures/{name}.{kind}": data for kind, data in draw.render(figure).items()}
    return found


def picture(name: str, alt: str) -> str:
    """A PNG that leads to its SVG."""
    return f"[![{escape(alt)}](figures/{name}.png)](figures/{name}.svg)"


def index(
    selection: Selection, shown: Sequence[Problem], summary: Frame, stored: Frame, store: Store, claimed: str
) -> str:
    """The page; `claimed` is the text on what documents claim, '' without one."""
    question, _, rest = suites.docstring(selection.suite).partition("\n")
    suite = suites.load(selection.suite)
    said = verdict.verdicts(shown)
    doubts = verdict.weaknesses(shown, summary, stored, suite)
    if store.passed_over:
        doubts.append(
            f"Files that could not be read: {listed([escape(name) for name in sorted(store.passed_over)])}."
        )
    ranges = verdict.tuning(summary)
    parts = [
        f"# {question or escape(suite.name)}",
        rest.strip("\n"),
        "## Verdict",
        said[0],
        bullets(said[1:]),
        *(["Learning rates that reach a task's first target:", bullets(ranges)] if ranges else []),
        "What weakens this:",
        bullets(doubts),
        picture(
            "overview",
            "Every task: progress at the best learning rate, and the final value at each learning rate",
        ),
        "## Table",
        numbers(summary),
        *(section(problem) for problem in shown),
        "## Failures",
        lost(shown),
        *(["## Claims of the originals' documents", claimed] if claimed else []),
        "## How to read",
        HOW_TO_READ,
        "## Environment",
        bullets(f"{name}: {escape(text)}" for name, text in reproduce.environment(newest(stored)).items()),
        "## Reproduce",
        code([*reproduce.commands(newest(stored), suite, selection.suite), selection.report_command()]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def bullets(lines: Any) -> str:
    """A list."""
    return "\n".join(f"- {line}" for line in lines)


def numbers(summary: Frame) -> str:
    """The terminal's table, with how many seeds it is over and what a step costs in gradients."""
    rows = []
    for row in summary.to_dict("records"):
        cost = row["gradients_per_step"]
        cells = [text.replace(">=", "≥ ") for text in texts({**row, "task": row["problem"]}, digits=2)]
        rows.append((*cells, str(row["seeds"]), "-" if cost != cost else f"{cost:.3g}"))
    return table(HEADER, rows, left=2)


def section(problem: Problem) -> str:
    """One problem: what it is, and its two figures."""
    task, name = problem.task, slug(problem.name)
    targets = ", ".join(
        f"{spoken(t.metric)} {compact(t.value)}" + " (lanes stop there)" * t.final for t in task.targets()
    )
    main = main_target(task)
    reported = f", reported by {spoken(task.score)}" if task.score != task.selection else ""
    setting = sentence(problem.rows.iloc[0].to_dict(), SETTING)
    return "\n\n".join(
        [
            f"## {escape(problem.name)}",
            f"{escape(setting)}. Learning rate chosen by {spoken(task.selection)}{reported}. "
            f"Targets: {targets}; steps are counted to {spoken(main.metric)} {compact(main.value)}. "
            f"Source: {escape(task.source)}.",
            picture(
                f"{name}-curves",
                f"{problem.name}: {' and '.join(map(spoken, problem.metrics))} against steps",
            ),
            picture(
                f"{name}-sensitivity",
                f"{problem.name}: final {spoken(task.selection)} by learning rate",
            ),
        ]
    )


def lost(shown: Sequence[Problem]) -> str:
    """Every status that occurred with its sentence, and where lanes were lost."""
    counts = pd.concat([problem.rows["status"] for problem in shown]).value_counts()
    rows = [(status, f"{counts[status]:,}", status.sentence) for status in Status if status in counts.index]
    found = verdict.failures(shown)
    return (
        table(("status", "lanes", "meaning"), rows, left=3)
        + "\n\n"
        + (bullets(found) or "No lane diverged or failed.")
    )


def closing(folder: Path, selection: Selection, shown: Sequence[Problem], summary: Frame, files: int) -> str:
    """What the terminal says."""
    names = summary["optimizer"].nunique()
    cells, tasks = int(summary["lanes"].sum()), len(shown)
    return (
        f"Wrote {folder / 'index.md'}: {tasks} problem{'s' * (tasks > 1)}, {names} optimizer{'s' * (names > 1)}, "
        f"{cells:,} cells; {files // 2} figures (SVG and PNG) and table.csv beside it.\n"
        f"{plain(verdict.verdicts(shown)[0])}\n"
        f"Next: {selection.next_command(summary)}"
    )
