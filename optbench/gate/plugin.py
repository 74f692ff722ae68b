"""A pytest plugin: has an optimizer of this repository changed what it does?

    def test_mine(optbench_gate):
        optbench_gate("mypackage:make")

The numbers are in `optbench.json` beside the test; `pytest --optbench-update` writes them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: Any) -> None:
    text = "write the numbers that optbench_gate compares with"
    parser.getgroup("optbench").addoption("--optbench-update", action="store_true", help=text)


@pytest.fixture
def optbench_gate(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function of an optimizer as `optbench check --opt` takes it, and of a file of numbers."""

    def gate(opt: str, baseline: str | Path | None = None) -> None:
        from optbench.gate.check import check_optimizers

        path = Path(baseline or request.path.parent / "optbench.json")
        update = bool(request.config.getoption("--optbench-update"))
        found = check_optimizers([opt], path, update, None, None)
        lines = [f"{each.layer}: {each.row} in {each.framework}: {each.sentence}" for each in found]
        if lines:
            pytest.fail("\n".join([f"{opt} differs from {path}", *lines]), pytrace=False)

    return gate
