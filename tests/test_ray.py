"""The Ray executor on a cluster of two nodes, and the order of jobs on very many workers."""

import heapq
import importlib.util
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest

from optbench.execute.job import Call, Queue
from optbench.execute.order import Order
from optbench.execute.ray import Ray, slots
from optbench.execute.request import Request
from optbench.execute.session import Session
from optbench.fields import UserError
from optbench.plan import EVALUATED
from optbench.store import Store

SUITE = Request(
    task=("rosenbrock_2", "quadratic_10"),
    opt=("adam", "sgd"),
    lr=("1e-6", "1e-5"),
    seeds=2,
    steps=100_000,
    vet=False,
)


@dataclass(frozen=True)
class Simulated(Call):
    number: int
    cost: float

    @property
    def family(self):
        return (str(self.number), "")

    def message(self):
        return {}


@pytest.mark.parametrize("spread", [0.1, 1.0, 1.5])
def test_ten_thousand_programs_on_a_thousand_workers_end_together(spread):
    """Longest first: the last ends at most a tenth later than if work could be cut at will."""
    costs = np.random.default_rng(7).lognormal(0, spread, 10_000)
    queue = Queue[Simulated]()
    queue.put([Simulated(number, cost) for number, cost in enumerate(costs)])
    busy = [(0.0, worker) for worker in range(1000)]
    ran, ends = set(), 0.0
    while queue.jobs:
        now, worker = heapq.heappop(busy)
        job = queue.take(worker)
        ran.add(job.number)
        ends = max(ends, now + job.cost)
        heapq.heappush(busy, (now + job.cost, worker))
    assert len(ran) == 10_000
    assert ends <= 1.1 * max(costs.sum() / 1000, costs.max())


def test_a_program_is_compiled_by_one_worker_while_there_is_other_work():
    """Two jobs of each family, as under two schedules, and another run of them; all cost about the same."""
    queue, where = Queue[Simulated](), {}
    for _ in range(2):
        queue.put([Simulated(number % 50, 1 + number % 50 / 100) for number in range(100)])
        for turn in range(100):
            job = queue.take(turn % 2)
            where.setdefault(job.number, set()).add(turn % 2)
    assert sum(len(workers) - 1 for workers in where.values()) <= 1


def test_stored_costs_order_a_later_run(tmp_path):
    from tests.grown import grow

    request = replace(SUITE, steps=20, results=str(tmp_path))
    grow(tmp_path, 0, request)
    more = Session(Order.of(replace(request, seeds=3)))
    assert more.programs
    frame = (
        more.store.frame().set_index(["task", "optimizer"])["seconds_per_step"].groupby(level=[0, 1]).median()
    )
    for program in more.programs:
        cell = program.cells[0]
        assert program.pace == frame[cell.task.label(), cell.optimizer.label()]
        assert program.stepping == len(program.cells) * 20 * program.pace * EVALUATED
    assert all(program.pace == 0 for program in more.order.planned), "shards would differ between machines"


def test_an_address_without_ray_is_refused():
    with pytest.raises(UserError, match="Add --executor ray"):
        Order.of(replace(SUITE, address="auto"))


def test_without_ray_there_is_a_sentence(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else real(name, *rest)
    )
    with pytest.raises(UserError, match=r"pip install 'optbench\[ray\]'"):
        Order.of(replace(SUITE, executor="ray"))


@dataclass(frozen=True)
class Asking(Call):
    """Asks a worker which accelerator it sees; it holds the program long enough for the other node to be needed."""

    number: int
    cost: float = 1.0

    @property
    def family(self):
        return (str(self.number), "")

    def message(self):
        inputs = {"args": "sleep 2; echo $CUDA_VISIBLE_DEVICES", "shell": True, "text": True}
        return {"call": "subprocess:check_output", "inputs": inputs, "framework": "torch"}


@pytest.mark.slow
def test_a_task_gets_an_accelerator_of_its_own(tmp_path):
    """Of a node that says it has two: no more than two programs at a time, each sees another one."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'optbench[ray]'")
    ray.init(num_cpus=4, num_gpus=2, log_to_driver=False, include_dashboard=False)
    try:
        assert slots(None, "gpu") == 2
        executor = Ray[Asking](str(tmp_path), slots(None, "gpu"), 60.0, "gpu", None)
        seen = [event.facts["numbers"].strip() for event in executor.run([Asking(n) for n in range(4)])]
    finally:
        ray.shutdown()
    assert sorted(seen) == ["0", "0", "1", "1"]


@pytest.mark.slow
def test_a_node_that_is_lost_in_the_middle_costs_nothing_but_time(tmp_path):
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'optbench[ray]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        other = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        cluster.wait_for_nodes()
        asked = Session(Order.of(replace(SUITE, executor="ray", results=str(tmp_path / "ray"))))
        assert asked.order.jobs == 2
        done = []
        for event in asked.run():
            assert event.kind == "done", event.facts
            done += [cell.id() for cell in event.program.cells]
            if len(ray.nodes()) == 2 and other is not None:
                cluster.remove_node(other, allow_graceful=False)
                other = None
        assert other is None
        limit = time.monotonic() + 60  # the cluster hears of a death late
        while (alive := [node["Alive"] for node in ray.nodes()].count(True)) > 1 and time.monotonic() < limit:
            time.sleep(0.5)
        assert alive == 1
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert sorted(done) == sorted(cell.id() for cell in asked.cells), "a program was lost, or stored twice"
    here = Session(Order.of(replace(SUITE, results=str(tmp_path / "here"))))
    list(here.run())
    frames = [session.frame() for session in (asked, here)]
    for name in ("cell", "status", "lanes"):
        assert list(frames[0][name]) == list(frames[1][name])
    assert [each.tobytes() for each in frames[0]["losses"]] == [
        each.tobytes() for each in frames[1]["losses"]
    ]
    assert len(Store(tmp_path / "ray").frame(every=True)) == len(frames[0])
    assert not list((tmp_path / "ray" / "partial").glob("*"))
