"""`make bench`: one core, one clock, and the goal table at the end."""

import functools

import pytest

from tests.bench.clock import race as run_race
from tests.bench.goals import Goals

GOALS = pytest.StashKey[Goals]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """pytest-benchmark keeps the numbers of every round (--benchmark-json=FILE); the table is ours."""
    config.option.benchmark_timer = "tests.bench.clock.clock"
    config.option.benchmark_quiet = True
    config.stash[GOALS] = Goals()


@pytest.fixture
def goals(pytestconfig):
    return pytestconfig.stash[GOALS]


@pytest.fixture
def race(benchmark):
    return functools.partial(run_race, benchmark)


def pytest_terminal_summary(terminalreporter, config):
    goals = config.stash[GOALS]
    if goals.rows:
        terminalreporter.write_line("")
        terminalreporter.write_line(goals.table())
