"""A pytest plugin: has an optimizer of this repository changed what it does, and does it stand what users do with one?

    def test_mine(optbench_gate, optbench_conformance):
        optbench_gate("mypackage:make")
        optbench_conformance("mypackage:make", only=["use", "trees"])

The numbers of the gate are in `optbench.json` beside the test; `pytest --optbench-update` writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        update = "pytest --optbench-update" if request.config.getoption("--optbench-update") else None
        found = check_optimizers([opt], path, update, None, None)
        lines = [f"{each.layer}: {each.row} in {each.framework}: {each.sentence}" for each in found]
        if lines:
            pytest.fail("\n".join([f"{opt} differs from {path}", *lines]), pytrace=False)

    return gate


@pytest.fixture
def optbench_conformance() -> Callable[..., None]:
    """The checks of `optbench vet --full`: a function of an optimizer, of groups (`only`) and of a framework."""

    def conformance(opt: Any, only: Sequence[str] = (), framework: str | None = None) -> None:
        from optbench.testing import check_conformance

        try:
            check_conformance(opt, only, framework)
        except AssertionError as faults:
            pytest.fail(str(faults), pytrace=False)

    return conformance
