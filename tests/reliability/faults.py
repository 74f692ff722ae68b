"""One file layer that fails or dies at its n-th call, for every n of a run in two stages with checkpoints.

The calls are those of the run's own folder: open, write, fsync, rename, unlink, mkdir. A process that was killed does
nothing more, not even in `finally`: after a kill every call of the layer kills again. The run is then repeated without
a fault: its rows must be those of a run that had none, to the bit, and no cell that was stored may be computed again.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from optbench.cell import FINAL
from optbench.execute.session import Session, stages
from optbench.fields import UserError
from optbench.store import Store
from tests.reliability import Outcomes, drawn
from tests.reliability.stub import Real, Stub, order

ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EDQUOT": errno.EDQUOT}


class Killed(BaseException):
    """The process is gone."""


class Layer:
    """The calls of one folder, the n-th of which has a fault (0: none)."""

    def __init__(self, folder: Path, at: int = 0, kind: str = ""):
        self.folder, self.at, self.kind = str(folder), at, kind
        self.calls: list[str] = []
        self.dead = False

    def call(self, name: str, act: Callable[[], Any], torn: Callable[[], Any] | None = None) -> Any:
        if self.dead:
            raise Killed
        self.calls.append(name)
        if len(self.calls) != self.at:
            return act()
        if self.kind in ERRORS:
            raise OSError(ERRORS[self.kind], os.strerror(ERRORS[self.kind]))
        if self.kind == "killed after":
            act()
        elif self.kind == "torn" and torn is not None:
            torn()
        self.dead = True
        raise Killed

    def inside(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        layer, real_open, real_os_open, real_fsync = self, io.open, os.open, os.fsync
        handles: set[int] = set()

        def opened(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if not layer.inside(path) or not set("wxa+") & set(mode):
                return real_open(path, mode, *rest, **options)
            assert "b" in mode, "text is not buffered here"
            return Written(layer.call("open", lambda: real_open(path, mode, *rest, **options)), layer)

        def os_opened(path: Any, *rest: Any, **options: Any) -> int:
            handle = real_os_open(path, *rest, **options)
            (handles.add if layer.inside(path) else handles.discard)(handle)
            return handle

        def synced(handle: int) -> None:
            if handle in handles:
                layer.call("fsync", lambda: real_fsync(handle))
            else:
                real_fsync(handle)

        def counted(name: str) -> Callable[..., Any]:
            real = getattr(os, name)

            def call(path: Any, *rest: Any, **options: Any) -> Any:
                act = lambda: real(path, *rest, **options)  # noqa: E731
                return layer.call(name, act) if layer.inside(path) else act()

            return call

        with contextlib.ExitStack() as stack:
            for owner, name, stand_in in (
                (io, "open", opened),
                (os, "open", os_opened),
                (os, "fsync", synced),
                *((os, name, counted(name)) for name in ("rename", "replace", "unlink", "mkdir")),
            ):
                stack.enter_context(mock.patch.object(owner, name, stand_in))
            yield


class Written(io.BytesIO):
    """A file that was opened to be written: what was written reaches it in one call, when it is closed."""

    def __init__(self, file: Any, layer: Layer):
        super().__init__()
        self.file, self.layer = file, layer

    def __exit__(self, *error: Any) -> None:
        data = self.getvalue()
        with self.file as file:
            self.layer.call("write", lambda: file.write(data), lambda: file.write(data[: len(data) // 2]))


def run(folder: Path, stub: Stub) -> Session:
    """The whole run, both stages, in this process; its last session."""
    stub.results, session = folder, None
    for session in stages(order(folder, fresh=True, seeds=3)):
        session.executor = stub
        list(session.run())
    assert session is not None
    return session


class Table(NamedTuple):
    """What a run ends with, to the bit."""

    reported: set[str]
    """The cells of the last stage, which are those of the trials that won."""
    rows: dict[str, str]
    """Of each cell that is stored; a fault in the first stage may have left some of a trial that did not win."""

    def holds(self, wanted: Table) -> bool:
        return self.reported == wanted.reported and wanted.rows.items() <= self.rows.items()


def table(session: Session) -> Table:
    reported = {cell.id() for cell in session.cells}
    rows = [row for part in session.store.tables() for row in part.to_pylist() if row["status"] in FINAL]
    found = {
        row["cell"]: str([row[name] for name in ("status", "losses", "evaluation_steps", "evaluation.loss")])
        for row in rows
    }
    assert reported <= set(found)
    return Table(reported, found)


def stored(folder: Path) -> set[str]:
    return {key[0] for key in Store(folder).finished()}


def real_faults(sample: int | None = 40) -> Outcomes:
    """Some of them around the real engine."""
    return faults(40 if sample is None else sample, Real)


def faults(sample: int | None = None, executor: type[Stub] = Stub) -> Outcomes:
    """Every call of the run: an error (each of three in turn), a kill before and after it, and half a write."""
    above = Path(tempfile.mkdtemp(prefix="optbench-faults-"))
    folder = above / "results"
    try:
        layer = Layer(folder)
        with layer.installed():
            wanted = table(run(folder, executor()))
        cases = [
            (number, kind)
            for number, name in enumerate(layer.calls, start=1)
            for kind in (
                [*ERRORS][number % 3],
                "killed before",
                "killed after",
                *["torn"] * (name == "write"),
            )
        ]
        for number, kind in drawn(cases, sample):
            shutil.rmtree(folder)
            yield outcome(folder, Layer(folder, number, kind), wanted, executor), f"{kind} at call {number}"
    finally:
        shutil.rmtree(above, ignore_errors=True)


def outcome(folder: Path, layer: Layer, wanted: Table, executor: type[Stub]) -> str:
    """Of a run with a fault, and of the same run again without one."""
    try:
        with layer.installed(), contextlib.suppress(Killed, UserError):
            run(folder, executor())
    except Exception:
        return "wrong"
    kept, again = stored(folder), executor()
    try:
        found = table(run(folder, again))
    except Exception:
        return "wrong"
    if kept & set(again.ran):
        return "lost"
    return "survived" if found.holds(wanted) else "wrong"
