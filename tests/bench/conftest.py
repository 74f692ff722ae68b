"""`make bench`: one core, one clock, and the goal table at the end.

A row is one small test: make contestants (`baselines`), let them race, say the goal.

    def test_something(race, goals):
        timed = race({"engine": engine(cells), "naive": naive(cells)})
        goals.faster("what it is", timed, than="naive", least=2)
"""

import datetime
import functools
import os
from pathlib import Path

import pytest

from optbench import environment
from tests.bench.clock import race as run_race
from tests.bench.goals import Goals

GOALS = pytest.StashKey[Goals]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """pytest-benchmark keeps the numbers of every round (--benchmark-json=FILE); the table is ours."""
    config.option.benchmark_timer = "tests.bench.clock.clock"
    config.option.benchmark_quiet = True
    config.stash[GOALS] = Goals()


def pytest_addoption(parser):
    parser.addoption("--goals", type=Path, metavar="FILE", help="write the goal table to a Markdown file too")


@pytest.fixture
def goals(pytestconfig):
    return pytestconfig.stash[GOALS]


@pytest.fixture
def race(benchmark):
    return functools.partial(run_race, benchmark)


@pytest.fixture
def cold():
    """Without the cache of compiled programs."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    for use in (False, True):
        jax.config.update("jax_enable_compilation_cache", use)
        compilation_cache.reset_cache()  # JAX checks once in a process whether there is a cache
        if not use:
            yield


def pytest_terminal_summary(terminalreporter, config):
    goals = config.stash[GOALS]
    if goals.rows:
        terminalreporter.write_line("")
        terminalreporter.write_line(goals.table())
        if config.option.goals:
            config.option.goals.write_text(page(goals.table()))


def page(table):
    """The table, the machine, and the command."""
    facts = environment.facts()
    versions = ", ".join(f"{name} {facts[f'version.{name}']}" for name in ("jax", "jaxlib", "optax", "torch"))
    cores = os.environ["OPTBENCH_TEST_CORES"].count(",") + 1
    return f"""# What `make bench` measured

On {datetime.date.today()}, at commit {facts["commit"] or "unknown"}: {facts["cpu_model"]}, {cores} cores,
{facts["platform"]}, Python {facts["python"]}, {versions}.

    make bench BENCH=--goals=docs/benchmarks.md

```text
{table}
```
"""
