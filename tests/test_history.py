"""Any history of a results folder: run, killed, run again, merged, reported, its optimizer edited in between.

Whatever happens in whatever order: no file that was written changes or goes, a run that ended computes nothing when it
is repeated, its rows are those of a folder without a history, and rows of other code are never mixed in.
"""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from optbench.execute.order import Order
from optbench.execute.request import Request
from optbench.execute.session import Session
from optbench.stats.summary import summarise
from optbench.store import Store
from tests.reliability.faults import Killed, Layer
from tests.reliability.stub import Stub

SOURCE = """
from dataclasses import dataclass
from optbench.optimizers.sgd import SGD

@dataclass(frozen=True, kw_only=True)
class Mine(SGD):
    name = "mine"
    version = {version}
"""
REFERENCE: dict[int, dict[str, bytes]] = {}
"""The rows of each version of the optimizer, in a folder without a history."""


def rows(session: Session) -> dict[str, bytes]:
    frame = session.frame()
    assert set(frame["status"]) == {"done"}
    return {cell: losses.tobytes() for cell, losses in zip(frame["cell"], frame["losses"], strict=True)}


class History(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.above = Path(tempfile.mkdtemp(prefix="optbench-history-"))
        self.folders = [self.above / "a", self.above / "b"]
        self.files: dict[Path, bytes] = {}
        self.edit(version=0)

    def teardown(self):
        shutil.rmtree(self.above, ignore_errors=True)

    def session(self, folder: Path, again: bool = False) -> tuple[Session, Stub]:
        stub = Stub()
        stub.results = folder
        asked = Request(
            task=("rosenbrock_2",), opt=(f"{self.above / 'mine.py'}:Mine", "adam"), lr=("0.1", "0.01"), seeds=2,
            steps=30, results=str(folder), jobs=1, vet=False, again=again,
        )  # fmt: skip
        return Session(Order.of(asked), stub), stub

    @rule(version=st.integers(0, 2))
    def edit(self, version: int):
        self.version = version
        (self.above / "mine.py").write_text(SOURCE.format(version=version))

    @rule(place=st.integers(0, 1), again=st.booleans())
    def run(self, place: int, again: bool):
        session, _ = self.session(self.folders[place], again)
        list(session.run())
        repeated, stub = self.session(self.folders[place])
        assert repeated.missing == 0
        assert list(repeated.run()) == []
        assert not stub.ran
        found = rows(repeated)
        if self.version not in REFERENCE:
            with tempfile.TemporaryDirectory() as fresh:
                other, _ = self.session(Path(fresh))
                list(other.run())
                REFERENCE[self.version] = rows(other)
        assert found == REFERENCE[self.version]

    @rule(
        place=st.integers(0, 1),
        at=st.integers(1, 40),
        kind=st.sampled_from(["killed before", "killed after", "torn"]),
    )
    def killed(self, place: int, at: int, kind: str):
        session, _ = self.session(self.folders[place])
        layer = Layer(self.folders[place], at, kind)
        try:
            with layer.installed():
                list(session.run())
        except Killed:
            pass

    @rule(into=st.integers(0, 1))
    def merge(self, into: int):
        """Merging is copying files."""
        source, target = Store(self.folders[1 - into]), Store(self.folders[into])
        target.prepare()
        for path in source.files():
            if not (target.runs / path.name).exists():
                shutil.copy2(path, target.runs)

    @rule(place=st.integers(0, 1))
    def report(self, place: int):
        frame = Store(self.folders[place]).frame()
        if len(frame):
            assert frame.groupby("optimizer")["code"].nunique().max() == 1, "rows of two codes in one median"
            assert len(summarise(frame)) == frame["optimizer"].nunique()

    @invariant()
    def nothing_that_was_written_changes(self):
        for path, content in self.files.items():
            assert path.read_bytes() == content
        for folder in self.folders:
            store = Store(folder)
            self.files |= {path: path.read_bytes() for path in store.files()}
            list(store.tables())
            assert store.passed_over == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a kill closes no file
def test_histories():
    History.TestCase.settings = settings(
        max_examples=15, stateful_step_count=8, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    History.TestCase().runTest()
