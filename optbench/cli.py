"""The command line: `optbench run`, `vet`, `report`, `claims`, `check`, `list`, `show`.

A command is a dataclass whose fields are its options. They are joined by `Union` and not by `|`, and none is
a function: tyro then finds the command without importing typeguard, which takes longer than all the rest.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, Union, get_args

import tyro
from tyro.conf import Positional, subcommand
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from optbench.execute.request import Number, Request, Text, Texts
from optbench.fields import UserError


@dataclass(frozen=True)
class List:
    """List optimizers, tasks, suites or metrics, those of installed packages too."""

    what: Positional[Literal["optimizers", "tasks", "suites", "metrics"]] = "optimizers"


@dataclass(frozen=True)
class Show:
    """Show the page of an optimizer, task or suite: equations, hyperparameters, source, memory."""

    name: Positional[str]
    """Such as kron, mlp or quickstart."""


@dataclass(frozen=True)
class Report:
    """Write a page with tables and figures of what is stored for a suite.

    Every optimizer that is stored for the suite's tasks is shown, each setting apart, unless less is asked for.
    """

    results: str = "results"
    """The folder that results are kept in."""
    out: str = "reports"
    """The folder to write to; the report goes to <out>/<suite>/."""
    suite: str = "quickstart"
    """The suite whose tasks are shown: a name, or a Python file that defines one."""
    opt: Texts = None
    """Only these optimizers: kron,adam or 'kron[b1=0.95]'."""
    task: Texts = None
    """These tasks in place of the suite's."""
    schedule: Text = None
    """Only this schedule, as the report names it: constant or 'cosine[warmup=0.1]'."""
    framework: Text = None
    """Only jax or torch."""
    dtype: Text = None
    """Only float32 or float64."""
    precision: Text = None
    """Only this precision of matrix products."""
    steps: Number = None
    """Only runs of this many steps."""
    device_kind: Text = None
    """Only this kind of device, as the report names it."""
    tuning: Text = None
    """What this ruleset chose, as `optbench run --tuning` ran it: grid, random or quasi."""
    trials: Number = None
    """Of so many trials."""
    fresh: bool = False
    """What a grid chose, reported on seeds that chose nothing."""
    older: bool = False
    """Show rows of older code too, each under a name of its own."""
    allow_unequal: bool = False
    """Rank optimizers although their budgets differ by more than 5 %; the report says so."""
    compare: Texts = None
    """Instead, what moved between two result folders, or two commits in one: --compare A B"""


@dataclass(frozen=True)
class Vet:
    """Check an optimizer or task on a few steps: shapes, repeatability, learning rate, schedule, descent."""

    target: Positional[str]
    """Such as kron, mymodule:make, path/to/mine.py:Mine or mlp."""
    framework: Text = None
    """Only jax or torch; all that it is offered in unless said."""


@dataclass(frozen=True)
class Claims:
    """Measure what the originals' documents say: documented, measured, verdict and why.

    What is stored is not measured again. Up to three claims are shown in full.
    """

    names: Positional[Texts] = None
    """Documents or claims, such as psgd-kron or esgd-m.warmup; all unless said."""
    results: str = "results"
    """The folder that results are kept in; the measurements are in its folder claims."""
    again: bool = False
    """Measure what is stored once more."""
    strict: bool = False
    """Exit 1 if a measurement failed."""
    jobs: Number = None
    """Worker processes, one core each; all cores unless said."""
    timeout: float = 600.0
    """Seconds without a sign of life after which a measurement is ended."""
    out: Text = None
    """Write a page of all measured claims, with tables and figures, to <out>/claims/."""


@dataclass(frozen=True)
class Check:
    """Compare what optimizers do with committed numbers or with a commit; exit 1 if something differs.

    Fingerprints in float64, trajectories of a small suite, distributions over seeds, and costs.
    """

    suite: str = "gate"
    """The suite of the trajectories."""
    baselines: Text = None
    """The file of the trajectories; results/baselines/<suite>.tsv unless given."""
    opt: Texts = None
    """Only these optimizers: kron, mypackage:make or path/to/mine.py:Mine. (default: all listed)"""
    baseline: Text = None
    """A file of fingerprints of your own: tests/optbench.json, or .tsv."""
    against: Text = None
    """Compare with the code of this commit instead of a file."""
    update: bool = False
    """Write the files from this run instead of comparing."""
    junit: Text = None
    """Write the result as JUnit XML to this file."""
    summary: Text = None
    """Append the result as Markdown to this file, such as $GITHUB_STEP_SUMMARY."""
    jobs: Number = None
    """Worker processes."""


Run = Annotated[Request, subcommand("run", description="Run a suite: what is stored is not computed again.")]
Commands = Union[Run, Vet, List, Show, Report, Claims, Check]  # noqa: UP007
# Without a help text of its own tyro would parse the source of typing for one: half of the cost of `--help`.
Command = Annotated[Commands, tyro.conf.arg(help="A command")]


DESCRIPTION = "A benchmark for deep-learning optimizers."


def main() -> None:
    """The entry point; a UserError is one message and exit code 2."""
    try:
        once(sys.argv[1:])
        code = do(tyro.cli(Command, prog="optbench", description=DESCRIPTION, registry=REGISTRY))
        sys.stdout.flush()
    except UserError as error:
        print(f"optbench: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("\noptbench: interrupted.", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # the reader of a pipe had enough; Python must not complain while it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def do(command: Request | Vet | List | Show | Report | Claims | Check) -> int:
    """Do what a command says; the exit code. What only one command needs is imported there."""
    match command:
        case Request():
            from optbench.terminal import run_in_terminal

            return run_in_terminal(command)
        case Vet(target, framework):
            from optbench.terminal import vet_in_terminal

            return vet_in_terminal(target, framework)
        case List(what):
            from optbench import pages

            print(pages.listing(what))
        case Show(name):
            from optbench import pages

            print(pages.page(name))
        case Report():
            from optbench.report.selection import Selection
            from optbench.report.write import write_comparison, write_report

            shown = {field.name for field in fields(Selection)}
            selection = Selection(**{name: getattr(command, name) for name in shown})
            if command.compare is not None:
                print(write_comparison(command.results, command.out, selection, command.compare))
            else:
                print(write_report(command.results, command.out, selection, command.allow_unequal)[1])
        case Claims(names, results, again, strict, jobs, timeout, out):
            from optbench.claim.command import claims_in_terminal

            code = claims_in_terminal(names, results, again, strict, jobs, timeout)
            if out is not None:
                from optbench.report.claims import write_page

                print(write_page(results, out))
            return code
        case Check():
            from optbench.gate.check import check

            names = {field.name: getattr(command, field.name) for field in fields(Check)}
            return check(**names)
    return 0


def once(words: Sequence[str]) -> None:
    """Refuse an option that is given twice, of which the parser would silently take the last."""
    options = Counter(word.partition("=")[0] for word in words if word.startswith("--"))
    for option, times in options.items():
        if times > 1:
            several = f", with all its values behind it: {option} a,b" if option in LISTS else ""
            raise UserError(f"{option} was given {times} times. Give it once{several}.")


LISTS = ("--opt", "--task", "--lr", "--metrics", "--compare")


# --- how a value is read, and what is said when it cannot be ---------------------------------------------

REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Options that may be left out, without tyro's `{None}|...`; numbers that say what is wrong with them."""
    inner = [kind for kind in get_args(info.type) if kind is not type(None)]
    optional = len(inner) == 1 and len(get_args(info.type)) == 2
    kind = inner[0] if optional else info.type
    if kind == tuple[str, ...]:
        return spec("*", "A,B", tuple, list)
    if kind is int:
        return spec(1, "INT", lambda words: number(words[0], int, "a whole number"), one)
    if kind is float:
        return spec(1, "NUMBER", lambda words: number(words[0], float, "a number"), one)
    if kind is str:
        return spec(1, "TEXT", lambda words: words[0], one)
    return None


def one(value: Any) -> list[str]:
    """The words that would give a value."""
    return [str(value)]


def spec(nargs: Any, metavar: str, read: Callable, words: Callable) -> PrimitiveConstructorSpec[Any]:
    """How one option is read (from the words behind it) and shown (as the words that would give it)."""

    def shown(value: Any) -> list[str]:
        return ["unset"] if value is None else words(value)

    return PrimitiveConstructorSpec(nargs, metavar, read, lambda value: True, shown)


def number(word: str, kind: type, what: str) -> Any:
    """The number that a word spells."""
    try:
        return kind(word)
    except ValueError:
        raise ValueError(f"{word!r} is not {what}.") from None
