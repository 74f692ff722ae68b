"""Real crashes of real runs: kill -9 of the driver, of a worker, Ctrl-C, a program that stands still."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from optbench.cell import Status, Trace
from optbench.execute import pool, worker
from optbench.execute.order import Order
from optbench.execute.request import Request
from optbench.execute.session import Session
from optbench.fields import UserError
from optbench.plan import programs
from optbench.store import Store

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")

ROOT = Path(__file__).parent.parent
# Two programs of about a second each; a learning rate this small neither reaches nor diverges.
LINE = "--task rosenbrock_2 --opt adam,sgd --lr 1e-6 --seeds 2 --steps 200000 --jobs 1"
SLOW = tuple(LINE.split())
PATIENCE = 120.0


MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
from optbench.cli import main
main()
"""


class Run:
    """`optbench run` in a process of its own."""

    def __init__(self, folder: Path, *words: str):
        self.store = Store(folder / "results")
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "run", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def until(self, what):
        """Wait for `what()` to be true, while the run lasts."""
        end = time.monotonic() + PATIENCE
        while not (found := what()):
            assert time.monotonic() < end, "waited too long"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)
        return found

    def workers(self) -> list[int]:
        return [pid for pid, parent in processes().items() if parent == self.process.pid]

    def end(self) -> tuple[int, str, str]:
        """Exit code, standard output and standard error, once it has ended."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


def processes() -> dict[int, int]:
    """Every living process and its parent."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            found[int(stat.parent.name)] = int(parent)
    return found


def gone(pids: list[int]) -> bool:
    end = time.monotonic() + 20
    while set(pids) & set(processes()):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def finish(folder: Path, *words: str) -> str:
    """Run to the end; what it printed."""
    with Run(folder, *words) as run:
        code, out, err = run.end()
    assert code == 0, out + err
    assert err == ""
    return out


def test_a_killed_driver_takes_its_workers_along_and_the_next_run_goes_on(tmp_path):
    with Run(tmp_path, *SLOW) as run:
        run.until(run.store.files)
        workers = run.workers()
        assert workers
        os.kill(run.process.pid, signal.SIGKILL)  # the driver alone, not its group
        run.process.wait()
        assert gone(workers), "a worker outlived its driver"
    finished = {path: path.read_bytes() for path in run.store.files()}
    assert len(finished) == 1
    assert len(run.store.finished()) == 2

    out = finish(tmp_path, *SLOW)
    assert "2 stored, 2 to compute in 1 program" in out
    assert len(run.store.finished()) == 4
    assert run.store.passed_over == {}
    assert {path: path.read_bytes() for path in finished} == finished
    assert len(run.store.files()) == 2
    names = [path.name for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert all(name.endswith(".parquet") for name in names), names


@pytest.mark.slow
def test_the_program_of_a_killed_worker_is_run_again_as_planned(tmp_path):
    with Run(tmp_path, *SLOW) as run:
        [worker] = run.until(run.workers)
        os.kill(worker, signal.SIGKILL)
        code, out, err = run.end()
    assert (code, err) == (0, "")
    assert "killed: the worker was killed from outside (signal 9); retried" in out
    assert "[2/2]" in out
    frame = run.store.frame()
    assert set(frame["status"]) == {"done"}
    assert set(frame["lanes"]) == {2}, "its lanes were divided"
    assert "nothing to compute" in finish(tmp_path, *SLOW)


def test_ctrl_c_is_a_sentence_and_code_130(tmp_path):
    with Run(tmp_path, *SLOW) as run:
        workers = run.until(run.workers)
        os.kill(run.process.pid, signal.SIGINT)
        code, out, err = run.end()
        assert gone(workers)
    assert code == 130
    assert "Interrupted. Finished programs are stored; run the same command to continue." in out
    assert "Traceback" not in err
    assert [path for path in (tmp_path / "results").rglob("*") if path.is_file()] == []


def test_a_program_that_stands_still_is_ended(tmp_path):
    # Half a second is less than jax takes to be imported: every worker is silent for too long.
    with Run(tmp_path, *SLOW, "--timeout", "0.5") as run:
        workers = run.until(run.workers)
        code, _, err = run.end()
        assert gone(workers)
    assert code == 1
    assert err.count("timeout: no sign of life for 0.") + err.count("timeout: no sign of life for 1.") == 2
    assert "(--timeout 0.5)" in err
    assert set(run.store.frame()["status"]) == {"timeout"}
    assert run.store.finished() == {}


@pytest.mark.slow
def test_a_stopped_worker_is_ended_and_its_successor_does_the_rest(tmp_path):
    with Run(tmp_path, *SLOW, "--timeout", "20") as run:
        [worker] = run.until(run.workers)
        os.kill(worker, signal.SIGSTOP)
        code, _, err = run.end()
        assert gone([worker])
    assert code == 1
    assert "timeout: no sign of life for 20" in err
    assert sorted(run.store.frame()["status"]) == ["done", "done", "timeout", "timeout"]


@pytest.mark.slow
def test_kills_at_any_moment_lose_nothing_that_was_stored(tmp_path):
    words = [*SLOW]
    words[words.index("--opt") + 1] = "adam,sgd,sgd[momentum=0.9],adam[b1=0.5]"
    store, stored = Store(tmp_path / "results"), {}
    for seconds in (0.3, 1.5, 3.0, 4.0, 5.0, 6.0):
        with Run(tmp_path, *words) as run:
            time.sleep(seconds)
            workers = run.workers()
            run.process.kill()
            assert gone(workers)
        now = {path: path.read_bytes() for path in store.files()}
        assert now.items() >= stored.items()
        stored = now
    finish(tmp_path, *words)
    frame = store.frame()
    assert len(frame) == 8
    assert set(frame["status"]) == {"done"}
    assert store.passed_over == {}


def one_cell(folder: Path) -> Order:
    """An order of one cell."""
    return Order.of(Request(task=("rosenbrock_2",), opt=("adam",), lr=("0.1",), seeds=1, results=str(folder)))


@pytest.fixture
def dying_session(monkeypatch, tmp_path):
    """A session of one program whose worker dies in the middle of a word."""
    dying = "import sys; sys.stdin.readline(); print('{\"event\": \"prog', end='', flush=True); sys.exit(3)"
    real = subprocess.Popen
    monkeypatch.setattr(
        pool.subprocess, "Popen", lambda words, **rest: real([sys.executable, "-c", dying], **rest)
    )
    return Session(one_cell(tmp_path))


def test_a_torn_event_of_a_dying_worker_does_not_hang_the_run(dying_session):
    [event] = list(dying_session.run())
    assert event.kind == "failed"
    assert event.facts == {"status": "error", "reason": "the worker ended with code 3: no error output"}
    assert [json.loads(spec)["seed"] for spec in dying_session.frame()["spec"]] == [0]


def test_a_disk_that_fills_up_during_a_run_is_a_message(dying_session, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"No space left on device\. .*make room and run again"):
        list(dying_session.run())
    assert dying_session.store.files() == []


def test_a_carry_is_forgotten_only_when_the_result_is_stored(monkeypatch, tmp_path):
    class Engine:
        dies = True

        @classmethod
        def run(cls, cells, mode, device, observe, keep, width, metrics, warm):
            for group in range(2):
                keep(group).save({"carry": np.arange(3)})
                keep(group).clear()  # as the lanes' loop does at its end
            if cls.dies:
                raise MemoryError
            return [Trace(cell, Status.ERROR, "not really run") for cell in cells]

        @staticmethod
        def device_facts(device):
            return {"device_kind": "cpu", "mode": "vmap"}

        @staticmethod
        def watch_memory(device):
            return lambda: None

    monkeypatch.setitem(worker.ENGINES, "jax", lambda device: Engine)
    [program] = programs(one_cell(tmp_path).cells)
    message = {"program": program.message(), "results": str(tmp_path)}
    Store(tmp_path).prepare()
    with pytest.raises(MemoryError):
        worker.work(message, lambda event, facts: None)
    assert len(list((tmp_path / "partial").iterdir())) == 2
    Engine.dies = False
    done = worker.work(message, lambda event, facts: None)
    assert len(list((tmp_path / "partial").iterdir())) == 2
    Session(one_cell(tmp_path)).keep("done", program, done)
    assert list((tmp_path / "partial").iterdir()) == []
    assert len(Store(tmp_path).files()) == 1
