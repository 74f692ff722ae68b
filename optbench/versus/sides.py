"""The two sides of a comparison: what was typed, and the git commit that it is run from.

`adam@HEAD~1` is adam as that commit of optbench's checkout has it, `mine.py:make@v1` as the repository of the file has it.
A commit runs from a worktree in a temporary folder, by the `optbench run` that an import finds there, so that nothing of
it is loaded into this process.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optbench import catalogue, origin
from optbench.fields import UserError
from optbench.optimizer import Optimizer
from optbench.task import Task
from optbench.tasks.renamed import Renamed


class BudgetSpent(Exception):
    """The time is over in the middle of a run; what had finished is stored."""


@dataclass(frozen=True)
class Checkout:
    """A commit of a repository, in a folder of its own."""

    commit: str
    root: Path
    """The repository's folder."""
    folder: Path
    """Where the commit lies."""

    def run(self, words: Sequence[str], seconds: float, label: str) -> None:
        """An `optbench` command of this commit's code."""
        here = Path.cwd().resolve()
        cwd = self.folder / here.relative_to(self.root) if here.is_relative_to(self.root) else self.folder
        cwd = cwd if cwd.is_dir() else self.folder
        path = os.pathsep.join(filter(None, (str(cwd), str(self.folder), os.environ.get("PYTHONPATH"))))
        try:
            done = subprocess.run(
                [sys.executable, "-m", "optbench", *words], cwd=cwd, env={**os.environ, "PYTHONPATH": path},
                capture_output=True, text=True, check=False, timeout=max(1.0, seconds),
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            raise BudgetSpent from late
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it failed"])[-1].removeprefix("optbench: ")
            raise UserError(f"{label} cannot be run: {last}")


@dataclass(frozen=True)
class Side:
    """What is compared: as it was typed, as this process knows it, and the commit that it is run from."""

    text: str
    optimizer: Optimizer
    checkout: Checkout | None = None

    @property
    def label(self) -> str:
        """`adam`, `adam@HEAD~1`."""
        return self.text or self.optimizer.label()

    def target(self) -> str:
        """What a run from the commit's worktree calls it."""
        name, bracket, rest = self.text.rpartition("@")[0].partition("[")
        if ":" not in name or self.checkout is None:
            return self.optimizer.label()  # without a learning rate that was set, which is given as --lr
        if name.rpartition(":")[0].endswith(".py"):
            path = source_of(self.optimizer).relative_to(self.checkout.root)
            name = f"{self.checkout.folder / path}:{name.rpartition(':')[2]}"
        return name + bracket + rest

    def span(self) -> tuple[float, float] | None:
        """The range that its learning rate is looked for in; None where it has none, or it was set."""
        swept = self.optimizer.swept()
        if swept is None or getattr(self.optimizer, swept.name) != swept.default:
            return None
        return swept.metadata["sweep"]

    def points(self, points: tuple[float, ...]) -> tuple[float | None, ...]:
        """The learning rates that it is tried at: these, if it is free."""
        swept = self.optimizer.swept()
        if self.span() is None:
            return (None if swept is None else getattr(self.optimizer, swept.name),)
        return points


@contextlib.contextmanager
def sides(*things: Any) -> Iterator[list[Side]]:
    """Each thing as a side; the worktrees of commits go when the block ends."""
    with contextlib.ExitStack() as stack:
        yield [side(thing, stack) for thing in things]


def side(thing: Any, stack: contextlib.ExitStack) -> Side:
    """From an optimizer in any form, or from text with @COMMIT behind it."""
    if not isinstance(thing, str):
        return Side("", catalogue.optimizer(thing))
    text, at, ref = thing.rpartition("@")
    if not at:
        return Side(thing, catalogue.optimizer(thing))
    optimizer = catalogue.optimizer(text)
    return Side(thing, optimizer, stack.enter_context(checked_out(source_of(optimizer), ref)))


def source_of(optimizer: Optimizer) -> Path:
    """The file that an optimizer is written in."""
    path = origin.file_of(optimizer.made_of()[0].__module__)
    if path is None:
        raise UserError(f"{optimizer.label()} has no source file, so it has no commits. Leave out the @.")
    return path


@contextlib.contextmanager
def checked_out(path: Path, ref: str) -> Iterator[Checkout]:
    """A commit of the repository that holds a file, as a worktree in a temporary folder."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(path.parent), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["git failed"])[-1]
            raise UserError(
                f"commit {ref!r} of {path}: {last}. Give a commit, branch or tag of its repository."
            )
        return done.stdout.strip()

    root = Path(git("rev-parse", "--show-toplevel")).resolve()
    commit = git("rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}")
    with tempfile.TemporaryDirectory(prefix="optbench-") as above:
        folder = Path(above).resolve() / root.name
        git("worktree", "add", "--detach", str(folder), commit)
        try:
            for part in ("suites", "claims"):  # which setup.py installs as parts of the package
                if (folder / part).is_dir() and (folder / "optbench").is_dir():
                    (folder / "optbench" / part).symlink_to(folder / part)
            yield Checkout(commit, root, folder)
        finally:
            git("worktree", "remove", "--force", str(folder))


SUITE = '''"""One side of `optbench try`."""
from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task

suite = Suite(
    name="try", tasks=({task},), optimizers=(optimizer({text!r}),), seeds={seeds}, steps={steps}, framework={framework!r}
)
'''


def expression(task: Task) -> str:
    """A task as Python, for the suite of a commit."""
    if isinstance(task, Renamed):
        made = "__import__('optbench.tasks.renamed').tasks.renamed.Renamed"
        return f"{made}(inner={expression(task.inner)}, salt={task.salt})"
    spec = task.spec()
    path = origin.FILES.get(type(task).__module__)
    name = f"{path}:{type(task).__qualname__}" if path else spec.get("origin", task.name)
    fields = {key: value for key, value in spec.items() if key not in ("name", "origin", "code")}
    return f"task({name!r}).replace(**{fields!r})"
