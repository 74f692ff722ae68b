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
def list_(
    what: Annotated[Literal["optimizers", "tasks", "suites"], tyro.conf.Positional] = "optimizers",
) -> int:
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
def report(
    results: str = "results",
    out: str = "reports",
    suite: str = "quickstart",
    opt: tuple[str, ...] | None = None,
    task: tuple[str, ...] | None = None,
    schedule: str | None = None,
    framework: str | None = None,
    dtype: str | None = None,
    steps: int | None = None,
    device_kind: str | None = None,
) -> int:
    """Write a page with tables and figures of what is stored for a suite.

    Every optimizer that is stored for the suite's tasks is shown, each setting apart, unless less is asked for.

    Args:
        results: the folder that results are kept in.
        out: the folder to write to; the report goes to <out>/<suite>/.
        suite: the suite whose tasks are shown: a name, or a Python file that defines one.
        opt: only these optimizers: kron,adam or 'kron[b1=0.95]'.
        task: these tasks in place of the suite's.
        schedule: only this schedule, as the report names it: constant or 'cosine(warmup=0.1)'.
        framework: only jax or torch.
        dtype: only float32 or float64.
        steps: only runs of this many steps.
        device_kind: only this kind of device, as the report names it.
    """
    from optbench.report.write import write_report

    narrow = {
        "schedule": schedule,
        "framework": framework,
        "dtype": dtype,
        "steps": steps,
        "device_kind": device_kind,
    }
    print(write_report(results, out, suite, opt=opt, task=task, **narrow))
    return 0


@app.command
def check(
    suite: str = "gate", baselines: str | None = None, update: bool = False, jobs: int | None = None
) -> int:
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
