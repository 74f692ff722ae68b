"""The command line: `optbench run`, `report`, `check`, `list`, `show`."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import tyro

from optbench.core import UserError
from optbench.execute.request import Request

app = tyro.extras.SubcommandApp()


@app.command
def run(request: Annotated[Request, tyro.conf.arg(name="")]) -> int:
    """Run a suite: what is stored is not computed again."""
    from optbench.terminal import run_in_terminal

    return run_in_terminal(request)


@app.command(name="list")
def list_(what: Annotated[Literal["optimizers", "tasks", "suites"], tyro.conf.Positional] = "optimizers") -> int:
    """List optimizers, tasks or suites."""
    from optbench import pages

    print(pages.listing(what))
    return 0


@app.command
def show(name: Annotated[str, tyro.conf.Positional]) -> int:
    """Show the page of an optimizer, task or suite: equations, hyperparameters, source, memory."""
    from optbench import pages

    print(pages.page(name))
    return 0


@app.command
def report(results: str = "results", out: str = "reports", suite: str = "quickstart") -> int:
    """Write tables and figures of what is stored for a suite.

    Args:
        results: the folder that results are kept in.
        out: the folder to write to; the report goes to <out>/<suite>/.
        suite: the suite whose cells are shown.
    """
    from optbench.report.write import write_report

    print(write_report(results, out, suite))
    return 0


@app.command
def check(suite: str = "gate", baselines: str | None = None, update: bool = False, jobs: int | None = None) -> int:
    """Compare the convergence numbers of a small suite with the committed baselines; exit 1 if one got worse.

    Args:
        suite: the suite to run.
        baselines: the file to compare with; results/baselines/<suite>.tsv unless said.
        update: write the file from this run instead of comparing.
        jobs: worker processes.
    """
    from optbench.gate import check_suite

    return check_suite(suite, baselines, update, jobs)


def main() -> None:
    """The entry point; a UserError is one message and exit code 2."""
    try:
        code = app.cli(prog="optbench", description="A benchmark for deep-learning optimizers.")
    except UserError as error:
        print(f"optbench: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
