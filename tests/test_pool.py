"""Workers: where they run, which programs they get, and what becomes of a program that does not fit.

The worker processes here are real ones that run no framework: they answer as a worker would with little memory.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from optbench import environment, optimizers, plan, tasks
from optbench.cell import Cell, Status
from optbench.execute import pool
from optbench.execute.order import Order
from optbench.execute.pool import Place, Pool
from optbench.execute.request import Request
from optbench.execute.session import Session
from optbench.execute.worker import failure
from optbench.plan import Program, programs
from optbench.store import Store

ROOT = Path(__file__).parent.parent

WORKER = """
import base64, json, os, signal, sys
from pathlib import Path
import numpy as np
from optbench.cell import Status, Trace
from optbench.protocol import Counts
from optbench.plan import Program
from optbench.resultfile import encoded

def say(event, **facts):
    print(json.dumps({"event": event, **facts}), flush=True)

if GROUP:
    Path(GROUP, "cgroup.procs").write_text(str(os.getpid()))
say("ready", pid=os.getpid(), kept=os.environ.get("MALLOC_MMAP_MAX_", ""))
for line in sys.stdin:
    message = json.loads(line)
    program = Program.of(message["program"])
    lanes = program.width if program.planned else len(program.cells)
    room = bytearray(lanes * TAKES)
    room[::4096] = bytes(len(room[::4096]))
    if KILLS and Path(KILLS).exists():
        Path(KILLS).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if lanes > FITS:
        if KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        say("failed", status="out of memory", reason=f"{lanes} lanes do not fit")
        continue
    ended = [np.array(step) for step in (1.0, 0.5)]
    facts = {"device_kind": "cpu", "mode": program.mode, "program_seconds": 1.0, "program_steps": 2, "parameters": 1,
             "lanes": len(program.cells)}
    if program.planned:
        facts |= {"width": program.width, "planned_width": program.planned}
    traces = [Trace(c, Status.DONE, "", np.array(ended), np.array([0, 2]), {"loss": np.array(ended)}, Counts(2, 0, 0))
              for c in program.cells]
    for trace in traces:
        trace.facts |= facts
    rows = base64.b64encode(encoded(traces, facts)).decode()
    say("done", rows=rows, cells=len(traces), width=program.width, lanes=len(program.cells), pid=os.getpid())
"""


@pytest.fixture
def workers(monkeypatch):
    """Let every worker be one of these, in whose memory so many lanes fit, or a lane of which takes so many bytes."""
    started = []

    def use(fits=1000, killed=False, kills="", takes=0, group=""):
        given = {"FITS": fits, "KILLED": killed, "KILLS": str(kills), "TAKES": takes, "GROUP": str(group)}
        script = "".join(f"{name} = {value!r}\n" for name, value in given.items()) + WORKER
        real = subprocess.Popen

        def start(words, **rest):
            if "optbench.execute.worker" not in words:
                return real(words, **rest)
            started.append(rest["env"])
            return real([sys.executable, "-c", script], cwd=ROOT, **rest)

        monkeypatch.setattr(pool.subprocess, "Popen", start)
        return started

    return use


def session(folder, **asked) -> Session:
    asked = {"task": ("rosenbrock_2",), "opt": ("adam",), "lr": ("0.1", "0.2", "0.3"), "seeds": 3, **asked}
    return Session(Order.of(Request(jobs=1, results=str(folder), **asked)))


# --- memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [False, True], ids=["said", "killed"])
def test_a_program_that_does_not_fit_is_halved_until_it_does(tmp_path, workers, killed, monkeypatch):
    """Whether the worker could still say so, or the system had killed it, and counts it."""
    monkeypatch.setattr(environment, "oom_kills", itertools.count().__next__)
    workers(fits=2, killed=killed)
    asked = session(tmp_path)
    events = list(asked.run())
    assert not [event for event in events if event.kind == "failed"]
    halved = [len(event.program.cells) for event in events if event.kind == "halved"]
    assert sorted(halved, reverse=True) == [9, 5, 4, 3]
    assert sum(event.facts["lanes"] for event in events if event.kind == "done") == 9
    assert set(asked.frame()["status"]) == {"done"}
    assert session(tmp_path).missing == 0, "what was computed in halves is found again"


@pytest.fixture
def control_group(monkeypatch):
    """A control group with 400 MB for workers, which is taken for that of this process."""
    version = 1 if (environment.CGROUPS / "memory").is_dir() else 2
    limit, counts = {1: ("memory.limit_in_bytes", "memory.oom_control"), 2: ("memory.max", "memory.events")}[
        version
    ]
    group = environment.CGROUPS / ("memory" * (version == 1)) / f"optbench-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text("400000000")
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    monkeypatch.setattr(environment, "memory_files", lambda: iter([(group / counts, group / limit)]))
    yield group
    group.rmdir()


def test_the_kernel_kills_a_worker_for_lack_of_memory(tmp_path, workers, control_group):
    """Really: nine lanes of 60 MB do not fit, two do."""
    workers(takes=60_000_000, group=control_group)
    events = list(session(tmp_path).run())
    halved = [event for event in events if event.kind == "halved"]
    assert max(len(event.program.cells) for event in halved) == 9
    assert {event.facts["reason"] for event in halved} == {"the system killed the worker for lack of memory"}
    assert not [event for event in events if event.kind == "failed"]
    assert sum(event.facts["lanes"] for event in events if event.kind == "done") == 9


def test_lanes_side_by_side_get_narrower(tmp_path, workers):
    """At half the width, since padding would fill the full one whoever is there."""
    workers(fits=12)
    asked = session(tmp_path, task=("rosenbrock_100",))
    events = list(asked.run())
    assert asked.order.planned[0].mode == "vmap"
    assert {event.facts["width"] for event in events if event.kind == "done"} == {12}
    assert session(tmp_path, task=("rosenbrock_100",)).missing == 0
    frame = asked.frame()
    assert (set(frame["width"]), set(frame["planned_width"])) == ({12}, {48})


def test_rows_of_another_width_are_another_result(tmp_path, workers, monkeypatch):
    """Their bits differ; they were taken for those that were planned."""
    workers()
    for memory, missing in ((1e5, 9), (None, 9), (1e5, 0), (None, 0)):
        with monkeypatch.context() as patch:
            patch.setattr(plan, "MEMORY", memory or plan.MEMORY)
            asked = session(tmp_path, task=("rosenbrock_100",))
            [program] = asked.order.planned
            assert (program.width < plan.WIDTH) == (memory is not None)
            assert asked.missing == missing
            list(asked.run())
            assert set(asked.frame()["width"]) == {program.width}
    assert len(asked.store.frame()) == 18


@pytest.mark.parametrize("task", ["rosenbrock_2", "rosenbrock_100"])
def test_a_program_whose_worker_is_killed_from_outside_runs_again_as_planned(tmp_path, workers, task):
    (tmp_path / "kill").touch()
    workers(kills=tmp_path / "kill")
    asked = session(tmp_path / "results", task=(task,))
    events = [event for event in asked.run() if event.kind != "ready"]
    assert [(event.kind, len(event.program.cells)) for event in events] == [("retried", 9), ("done", 9)]
    assert events[1].program == events[0].program == asked.order.planned[0]
    assert set(asked.frame()["lanes"]) == {9}


@pytest.mark.parametrize("counted", [7, None], ids=["counted", "nobody counts"])
def test_a_program_whose_workers_are_all_killed(tmp_path, workers, monkeypatch, counted):
    """Memory is to blame only where nobody could say that it is not."""
    monkeypatch.setattr(environment, "oom_kills", lambda: counted)
    started = workers(fits=0, killed=True)
    asked = session(tmp_path, lr=("0.1",), seeds=1)
    [failed] = [event for event in asked.run() if event.kind == "failed"]
    assert failed.facts["status"] == ("error" if counted else "out of memory")
    assert failed.facts["reason"] == "the worker was killed from outside (signal 9), twice"
    assert len(started) == 2


def test_a_kill_that_only_the_size_of_workers_explains_is_lack_of_memory(tmp_path, workers, monkeypatch):
    """A watchdog of the user's kills before the kernel must, and nobody counts that."""
    monkeypatch.setattr(environment, "oom_kills", lambda: 7)
    monkeypatch.setattr(environment, "memory", lambda: 1000)
    monkeypatch.setattr(environment, "resident", lambda name, process: 501)
    workers(fits=5, killed=True)
    halved = [event for event in session(tmp_path).run() if event.kind == "halved"]
    assert [event.facts["reason"] for event in halved] == ["the system killed the worker for lack of memory"]


GROUP = "0::/user/of\n4:memory,hugetlb:/jobs/1\n"


@pytest.mark.parametrize(
    ("files", "kills", "limit"),
    [
        (
            {"sys/user/of/memory.events": "low 0\noom 3\noom_kill 2", "sys/user/of/memory.max": "4096\n"},
            2,
            4096,
        ),
        (
            {"sys/memory.events": "oom_kill 5\n", "sys/memory.max": "max\n", "proc/vmstat": "oom_kill 9"},
            5,
            None,
        ),
        (
            {
                "sys/memory/jobs/1/memory.oom_control": "oom_kill_disable 0\noom_kill 1\n",
                "sys/memory/jobs/1/memory.limit_in_bytes": "8192",
                "sys/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            1,
            8192,
        ),
        ({"sys/user/of/memory.events": "", "proc/vmstat": "pgfault 3\noom_kill 4\n"}, 4, None),
        ({"proc/vmstat": "pgfault 3"}, None, None),
    ],
    ids=["version 2", "in a container", "version 1", "machine", "nobody"],
)
def test_kills_for_lack_of_memory_are_counted_where_the_kernel_does(
    tmp_path, monkeypatch, files, kills, limit
):
    for name, text in {"proc/self/cgroup": GROUP, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(environment, "PROC", tmp_path / "proc")
    monkeypatch.setattr(environment, "CGROUPS", tmp_path / "sys")
    assert environment.oom_kills() == kills
    assert environment.memory() == (limit or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def test_when_one_lane_does_not_fit_all_rows_say_so_and_nobody_tries_the_rest(tmp_path, workers):
    started = workers(fits=0)
    asked = session(tmp_path)
    events = list(asked.run())
    assert set(asked.frame()["status"]) == {"out of memory"}
    assert len(asked.frame()) == 9
    assert next(event.facts["reason"] for event in events if event.kind == "failed") == "1 lanes do not fit"
    assert len(started) <= 2 * 9 // 2, "each lane was tried, though the first said it all"
    assert session(tmp_path).missing == 9, "what failed is tried again"


def test_the_halves_of_a_program():
    [program] = programs(Request("classic", task=("rosenbrock_2",), opt=("adam",), seeds=1).cells())
    assert program.mode == "map"
    assert [len(half.cells) for half in program.halves()] == [5, 4]
    cells = [cell.id() for half in program.halves() for cell in half.cells]
    assert cells == [cell.id() for cell in program.cells]
    assert Program(program.cells[:1], "map").halves() == ()
    widths, narrow = [], [Program(program.cells[:1], "vmap")]
    while narrow:
        widths.append(narrow[0].width)
        narrow = narrow[0].halves()
    assert widths == [48, 24, 12, 6, 3, 1]


def real_errors():
    import jax.numpy as jnp
    import torch

    def of(make):
        try:
            make()
        except BaseException as error:
            return error

    return {
        "python": of(lambda: bytearray(1 << 60)),
        "torch": of(lambda: torch.empty(1 << 55)),
        "jax": of(lambda: jnp.zeros((1 << 50,), jnp.float32).block_until_ready()),
    }


def test_what_frameworks_say_when_memory_runs_out_is_understood():
    for source, error in real_errors().items():
        assert failure(error) == Status.OUT_OF_MEMORY, f"{source}: {type(error).__name__}: {error}"
    assert failure(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")) == Status.OUT_OF_MEMORY
    assert failure(RuntimeError("shapes do not match")) == Status.ERROR


# --- allocators ----------------------------------------------------------------------------------------------


def test_programs_with_large_temporaries_get_a_worker_that_keeps_memory(tmp_path, workers):
    started = workers()
    cells = [
        Cell(tasks.parse(task), optimizers.parse(name), steps=5)
        for task in ("mlp", "mlp[width=512,batch=512]", "rosenbrock_2")
        for name in ("adam", "sgd")
    ]
    made = programs(cells)
    assert [program.roomy for program in made] == [False, False, False, False, True, True]
    Store(tmp_path).prepare()
    events = list(Pool(str(tmp_path), 1, 60.0).run(made))
    done = [event for event in events if event.kind == "done"]
    assert [event.program.roomy for event in done] == [False] * 4 + [True] * 2
    kept = [env.get("MALLOC_MMAP_MAX_") for env in started]
    assert kept == [None, "0"], "one process of each kind"
    by_kind = {event.program.roomy: set() for event in done}
    for event in done:
        by_kind[event.program.roomy].add(event.facts["pid"])
    assert {kind: len(pids) for kind, pids in by_kind.items()} == {False: 1, True: 1}


# --- places --------------------------------------------------------------------------------------------------


def test_a_worker_on_a_cpu_has_a_core_one_thread_and_no_accelerator(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    place = Place("cpu", 0)
    told = place.environment()
    assert place.words()[0] == "--core"
    assert (told["JAX_PLATFORMS"], told["OMP_NUM_THREADS"]) == ("cpu", "1")
    assert not any(name.startswith("MALLOC") for name in told if name not in os.environ)


@pytest.mark.parametrize(("visible", "own"), [(None, "1"), ("", "1"), ("4,7", "7"), ("GPU-a,GPU-b", "GPU-b")])
def test_a_worker_on_an_accelerator_sees_its_own_and_is_not_pinned(monkeypatch, visible, own):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    place = Place("gpu", 1)
    told = place.environment()
    assert place.words() == []
    assert told["CUDA_VISIBLE_DEVICES"] == own
    assert told.get("OMP_NUM_THREADS") == os.environ.get("OMP_NUM_THREADS")


def test_a_program_survives_the_pipe_with_its_width():
    [program] = programs(Request(task=("rosenbrock_100",), opt=("adam",), seeds=1).cells(), memory=1e5)
    assert program.width < plan.WIDTH
    assert Program.of(json.loads(json.dumps(program.message()))) == program
