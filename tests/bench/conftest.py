"""`make bench`: one core, one clock, and the goal table at the end.

A row is one small test: make contestants (`baselines`), let them race, say the goal.

    def test_something(race, goals):
        timed = race({"engine": engine(cells), "naive": naive(cells)})
        goals.faster("what it is", timed, than="naive", least=2)
"""

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


@pytest.fixture
def cold():
    """Programs are compiled anew, as on the first day."""
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    yield
    jax.config.update("jax_enable_compilation_cache", True)


def pytest_terminal_summary(terminalreporter, config):
    goals = config.stash[GOALS]
    if goals.rows:
        terminalreporter.write_line("")
        terminalreporter.write_line(goals.table())
