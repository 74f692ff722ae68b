"""The command line: `optbench run`, `try`, `vet`, `report`, `import`, `export`, `merge`, `claims`, `check`, `list`, ...

A command is a dataclass whose fields are its options. They are joined by `Union` and not by `|`, and none is
a function: tyro then finds the command without importing typeguard, which takes longer than all the rest.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, Union, get_args

import tyro
from tyro.conf import Positional, subcommand
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from optbench import versus
from optbench.execute.request import Number, Request, Shown, Text, Texts
from optbench.fields import UserError, shortened

JSON = "Print one JSON object on standard output (docs/json.md), the rest on standard error."
Json = Annotated[bool, tyro.conf.arg(help=JSON)]


@dataclass(frozen=True)
class List:
    """List optimizers, tasks, suites or metrics, including those of installed packages."""

    what: Positional[Literal["optimizers", "tasks", "suites", "metrics"]] = "optimizers"
    json: Json = False


@dataclass(frozen=True)
class Show:
    """Show the page of an optimizer, task or suite: equations, hyperparameters, source, memory."""

    name: Positional[str]
    """kron, mlp or quickstart."""
    json: Json = False


@dataclass(frozen=True)
class Report(Shown):
    """Write a page with tables and charts of the stored results of a suite.

    Shows every stored optimizer for the suite's tasks, one section per setting; narrow it with the options below.
    """

    out: str = "reports"
    """Output folder; the report goes to <out>/<suite>/."""
    allow_unequal: bool = False
    """Rank optimizers even if their budgets differ by more than 5 %; the report says so."""
    figures: bool = False
    """Also draw every chart for print, as SVG and PNG, and show these in index.md."""
    compare: Texts = None
    """Compare two result folders or commits instead: --compare A B"""
    json: Json = False


@dataclass(frozen=True)
class Paper(Shown):
    """Write the figures and LaTeX tables of a report at the text width of a venue, with ablations and an appendix.

    Needs `pip install 'optbench[paper]'`; docs/paper.md describes the folder.
    """

    venue: str = "neurips2024"
    """A bundle of tueplots: neurips2024, icml2024, iclr2024, jmlr2001, ..."""
    out: str = "paper"
    """Output folder."""
    without: Texts = None
    """The parts to switch off, each with its value: b1=0,nesterov=False. (default: all that are declared so)"""
    allow_unequal: bool = False
    """Rank optimizers even if their budgets differ by more than 5 %."""
    json: Json = False


@dataclass(frozen=True)
class Import:
    """Import other people's numbers as rows, which `report` scores as it does own ones (docs/import.md).

    AlgoPerf's tables of times to targets, or a tidy table of curves with task, optimizer, seed, step and loss.
    """

    kind: Positional[Literal["algoperf", "csv"]]
    """algoperf: a column of times for submission, workload and study; csv: curves."""
    path: Positional[str]
    """The CSV file."""
    results: str = "results"
    """The results folder that gets the rows; it may exist."""
    metric: Text = None
    """Of several metrics of a table of curves, the one that chooses and is reported; less is better."""
    json: Json = False


@dataclass(frozen=True)
class Export(Shown):
    """Export the rows that `report` would show as a tidy table of curves, which `import csv` reads."""

    to: str = ""
    """The CSV file to write."""
    json: Json = False


@dataclass(frozen=True)
class Vet:
    """Check an optimizer or task on a few steps: shapes, repeatability, learning rate, schedule, descent."""

    target: Positional[str]
    """kron, mymodule:make, path/to/mine.py:Mine or mlp."""
    framework: Text = None
    """Only jax or torch; default: all it is offered in."""
    full: bool = False
    """Also what users do with an optimizer: odd shapes, copies, wrappers, shards, checkpoints (docs/conformance.md)."""
    only: Texts = None
    """With --full, only these groups or checks: use,trees,parity,sharding,checkpoints or use.pickle."""
    junit: Text = None
    """Write the result as JUnit XML to this file."""
    json: Json = False


@dataclass(frozen=True)
class Claims:
    """Test claims of the originals' documents: documented value, measured value, verdict and why.

    Stored measurements are not repeated. Up to three claims are shown in full.
    """

    names: Positional[Texts] = None
    """Documents or claims, such as psgd-kron or esgd-m.warmup; default: all."""
    results: str = "results"
    """Results folder; measurements are in its folder claims."""
    again: bool = False
    """Repeat stored measurements."""
    strict: bool = False
    """Exit 1 if a measurement failed."""
    jobs: Number = None
    """Worker processes, one core each; default: all cores."""
    timeout: float = 600.0
    """Seconds without progress after which a measurement is stopped."""
    out: Text = None
    """Write a page of all measured claims, with tables and figures, to <out>/claims/."""
    json: Json = False


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
    json: Json = False


@dataclass(frozen=True)
class Merge:
    """Merge results folders into one: of shards, or of several machines. Merged into itself, a folder is compacted.

    Exit 1 if two folders have a cell with other bits, or a file is no result; what can be merged is.
    """

    folders: Positional[Texts] = None
    """Results folders."""
    into: str = ""
    """The results folder that gets everything; it may exist."""
    bits: Number = None
    """Of a folder that is compacted, keep so many significant bits of each step's loss (evaluations keep all)."""
    json: Json = False


@dataclass(frozen=True)
class Try(versus.Try):
    """Is an optimizer better than another, or worse, or the same? Runs paired seeds until it is known.

    Exit codes: 0 better, 1 worse, 3 equivalent or identical, 4 cannot tell yet, 5 better on a task and worse on one.
    """

    x: Positional[str]
    """mine.py:make, kron, 'adam[b2=0.99]', or one of them as a commit has it: mine.py:make@HEAD~1."""
    json: Json = False


Run = Annotated[Request, subcommand("run", description="Run a suite: what is stored is not computed again.")]
Commands = Union[Run, Try, Vet, List, Show, Report, Paper, Import, Export, Merge, Claims, Check]  # noqa: UP007
# Without a help text of its own tyro would parse the source of typing for one: half of the cost of `--help`.
Command = Annotated[Commands, tyro.conf.arg(help="A command")]


def main() -> None:
    """The entry point: carries out a command, prints its answer as JSON where that is wanted."""
    # A file that is opened later must not get the number of a closed stream.
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    words = sys.argv[1:]
    code = UNREAD
    try:
        code, data = answer(words)
        if "--json" in words:
            print(json.dumps(plain({"schema": SCHEMA, "command": words[0], "exit_code": code, **data})))
        sys.stdout.flush()
    except OSError as error:  # the reader of a pipe had enough, or a disk is full
        # Python must not complain while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"optbench: standard output: {error.strerror}.", file=sys.stderr)
            code = 2
    sys.exit(code)


def answer(words: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """The exit code of a command line and its data; a UserError is one message and exit code 2."""
    about, said = "A benchmark for deep-learning optimizers.", io.StringIO()
    quiet = "--json" in words
    try:
        once(words)
        try:
            with contextlib.redirect_stderr(said) if quiet else contextlib.nullcontext():
                command = tyro.cli(Command, prog="optbench", description=about, registry=REGISTRY)
        except SystemExit as end:
            if quiet and end.code:  # the text in tyro's box
                raise UserError(" ".join(re.sub("[─│╭╮╰╯]", " ", said.getvalue()).split())) from None
            raise
        with contextlib.redirect_stdout(sys.stderr) if quiet else contextlib.nullcontext():
            return do(command)
    except UserError as error:
        print(f"optbench: {error}", file=sys.stderr)
        return 2, {"error": str(error)}
    except KeyboardInterrupt:
        print("\noptbench: interrupted.", file=sys.stderr)
        return 130, {}
    except BrokenPipeError:
        raise
    except OSError as error:  # a path that is too long, is no folder, may not be read; a full disk has none
        what = f"{error.strerror or error}."
        if error.filename is not None:
            what = f"{shortened(error.filename)}: {what} Give another path."
        print(f"optbench: {what}", file=sys.stderr)
        return 2, {"error": what}
    except Exception as error:  # an exit code of 1 would be an answer of `try` and `check`
        sys.excepthook(type(error), error, error.__traceback__)
        return 2, {"error": f"{type(error).__name__}: {error}"}


UNREAD = 141
"""The exit code where the reader of a pipe went away before the end, as of a process that SIGPIPE ends."""
SCHEMA = 1
"""The version of what `--json` prints; it changes where a key changes its meaning or goes."""


def plain(value: Any) -> Any:
    """A value as JSON has it: a table as a list of rows, null for a number that is not finite."""
    value = value.to_dict("records") if hasattr(value, "to_dict") else value
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def do(command: Commands) -> tuple[int, dict[str, Any]]:
    """Carry out a command: the exit code, and what `--json` prints. What only one command needs is imported there."""
    match command:
        case Request():
            from optbench.terminal import run_in_terminal

            return run_in_terminal(command)
        case Try():
            from optbench.terminal import try_in_terminal

            return try_in_terminal(command)
        case Vet():
            from optbench.terminal import vet_in_terminal

            return vet_in_terminal(**options(command))
        case List():
            from optbench import pages

            rows = pages.listing(command.what)
            print(pages.as_table(rows))
            return 0, {command.what: rows}
        case Show():
            from optbench import pages

            text, facts = pages.page(command.name)
            print(text)
            return 0, facts
        case Report():
            from optbench.report.selection import Selection
            from optbench.report.write import write_comparison, write_report

            selection = Selection(**options(command, Selection))
            if command.compare is not None:
                folder, text = write_comparison(command.results, command.out, selection, command.compare)
            else:
                how = command.allow_unequal, command.figures
                folder, text = write_report(command.results, command.out, selection, *how)
            print(text)
            files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
            return 0, {"folder": str(folder), "files": files, "text": text}
        case Paper():
            from optbench.report.paper import write_paper
            from optbench.report.selection import Selection

            selection = Selection(**options(command, Selection))
            return write_paper(selection, command.out, command.venue, command.without, command.allow_unequal)
        case Import():
            from optbench.exchange.command import import_in_terminal

            return import_in_terminal(**options(command))
        case Export():
            from optbench.exchange.command import export_in_terminal
            from optbench.report.selection import Selection

            return export_in_terminal(Selection(**options(command, Selection)), command.to)
        case Merge():
            from optbench.terminal import merge_in_terminal

            return merge_in_terminal(**options(command))
        case Claims():
            from optbench.claim.command import claims_in_terminal

            given = options(command)
            out = given.pop("out")
            code, data = claims_in_terminal(**given)
            if out is not None:
                from optbench.report.write import write_claims

                print(write_claims(command.results, out))
            return code, data
        case Check():
            from optbench.gate.check import check

            return check(**options(command))


def options(command: Any, kind: type | None = None) -> dict[str, Any]:
    """The options of a command, but for `--json`; or those that a dataclass has as fields too."""
    wanted = {field.name for field in fields(kind or command)} - {"json"}
    return {name: getattr(command, name) for name in wanted}


def once(words: Sequence[str]) -> None:
    """Refuse an option that is given twice, of which the parser would silently take the last."""
    options = Counter(word.partition("=")[0] for word in words if word.startswith("--"))
    for option, times in options.items():
        if times > 1:
            several = f", with all its values behind it: {option} a,b" if option in LISTS.split() else ""
            raise UserError(f"{option} was given {times} times. Give it once{several}.")


LISTS = "--opt --task --tasks --axis --lr --metrics --schedule --steps --compare --only"


# --- how a value is read, and what is said when it cannot be ---------------------------------------------

REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Options that may be left out, without tyro's `{None}|...`; numbers that say what is wrong with them."""
    inner = [kind for kind in get_args(info.type) if kind is not type(None)]
    kind: Any = inner[0] if len(inner) == 1 and len(get_args(info.type)) == 2 else info.type
    several = kind == tuple[str, ...]
    if not several and kind not in ONE:
        return None
    metavar, what = ("A,B", "") if several else ONE[kind]

    def read(words: list[str]) -> Any:
        try:
            return tuple(words) if several else kind(words[0])
        except ValueError:
            raise ValueError(f"{words[0]!r} is not {what}.") from None

    def shown(value: Any) -> list[str]:
        """The words that would give it."""
        return ["unset"] if value is None else list(value) if several else [str(value)]

    return PrimitiveConstructorSpec("*" if several else 1, metavar, read, lambda value: True, shown)


ONE = {int: ("INT", "a whole number"), float: ("NUMBER", "a number"), str: ("TEXT", "text")}
