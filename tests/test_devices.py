"""Devices: which there are, who gets which, and the whole way with accelerators that are not really there.

A real one is wanted by the tests that are marked; everything else here runs on a CPU that is called an accelerator.
"""

import pickle
from pathlib import Path

import numpy as np
import pytest

from optbench import optimizers, plan, tasks
from optbench.cell import Cell
from optbench.engines import jax as engine
from optbench.engines import jax_device
from optbench.execute import devices
from optbench.execute.devices import CPU, Device, resolve
from optbench.execute.order import Order
from optbench.execute.request import Request
from optbench.execute.session import Session
from optbench.fields import UserError
from optbench.store import Store
from tests.contract import TINY_MLP, cells_of, run
from tests.convnet import ConvNet
from tests.process import command

ROOT = Path(__file__).parent.parent
GPU = Device("gpu", "NVIDIA Something", 2, 10**9)


@pytest.fixture
def two_gpus(monkeypatch):
    """Both frameworks are equipped, and see two accelerators."""
    monkeypatch.setattr(devices, "equipped", lambda framework: True)
    monkeypatch.setattr(devices, "ask", lambda framework: [CPU, GPU])


def session(folder, **asked) -> Session:
    return Session(Order.of(Request(task=("mlp",), opt=("adam",), seeds=1, results=str(folder), **asked)))


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_the_framework_that_runs_is_asked_for_its_devices(framework, two_gpus, monkeypatch):
    asked = []
    monkeypatch.setattr(devices, "ask", lambda framework: asked.append(framework) or [CPU, GPU])
    assert resolve("auto", framework) == resolve("gpu", framework) == GPU
    assert asked == [framework] * 2
    assert resolve("cpu", framework) == CPU
    assert asked == [framework] * 2, "who asks for the CPU need not wait"
    with pytest.raises(UserError, match=f"--device tpu is not available: {framework} sees cpu, gpu. Try"):
        resolve("tpu", framework)


def test_what_frameworks_say_of_their_devices():
    for found in (devices.ask("jax"), devices.SEEN["torch"]()):
        assert found[0].platform in ("cpu", "gpu", "tpu")
        assert found[0].number >= 1


def test_one_worker_for_each_accelerator(two_gpus, tmp_path):
    assert session(tmp_path).order.jobs == 2
    assert session(tmp_path, jobs=1).order.jobs == 1
    with pytest.raises(UserError, match=r"--jobs 3 is more than the 2 gpu here \(NVIDIA Something\)"):
        session(tmp_path, jobs=3)


def test_on_an_accelerator_all_is_scanned_and_as_wide_as_its_memory():
    grid = cells_of(optimizers.parse("adam"), ConvNet(width=32, batch=64, enlarge=2), rates=3)
    [program] = plan.programs(grid, "gpu", memory=1e9)
    assert (program.mode, program.width) == ("vmap", plan.WIDTH)
    narrow = plan.programs(grid, "gpu", memory=4e7)
    assert {program.width for program in narrow} == {3}
    assert all(len(program.cells) <= 3 for program in narrow)
    few = plan.programs(grid[:1], "gpu", memory=4e7)
    assert few[0].width == 3, "the width depends on the memory, and not on how many lanes are asked for"
    large = Cell(tasks.parse("mlp[width=2048,batch=1000]"), optimizers.parse("adam"))
    assert plan.choose_mode(large, plan.shapes_of(large), "gpu") == "map"


# --- precision -----------------------------------------------------------------------------------------------


def test_a_precision_is_part_of_the_cell_and_of_what_rows_are_grouped_by(tmp_path):
    usual = Cell(TINY_MLP, optimizers.parse("adam"), steps=3)
    rounded = Cell(TINY_MLP, optimizers.parse("adam"), steps=3, precision="bfloat16")
    assert "precision" not in usual.spec()
    assert usual.id() != rounded.id()
    assert usual.program_key() != rounded.program_key()
    assert pickle.loads(pickle.dumps(rounded)) == rounded
    store = Store(tmp_path)
    store.prepare()
    store.write(run([usual]) + run([rounded]), {"device_kind": "cpu"})
    frame = store.frame()
    assert set(zip(frame["dtype"], frame["precision"], strict=True)) == {
        ("float32", "float32"),
        ("float32", "bfloat16"),
    }
    assert set(frame["precision"]) == {"float32", "bfloat16"}


def test_a_precision_that_means_nothing_is_refused(tmp_path, two_gpus):
    with pytest.raises(UserError, match="precision bfloat16 rounds matrix products of float32, and dtype is"):
        Cell(TINY_MLP, optimizers.parse("adam"), dtype="float64", precision="bfloat16")
    with pytest.raises(UserError, match="--precision bfloat16 is for accelerators"):
        session(tmp_path, precision="bfloat16", device="cpu")
    assert session(tmp_path, precision="bfloat16").cells[0].precision == "bfloat16"


@pytest.mark.parametrize(
    ("precision", "word"), [("float32", "HIGHEST"), ("tensorfloat32", "HIGH"), ("bfloat16", "BF16_BF16_F32")]
)
def test_jax_gets_the_precision_of_products(precision, word, monkeypatch):
    import jax
    import jax.numpy as jnp

    cell = Cell(TINY_MLP, optimizers.parse("adam"), precision=precision)
    monkeypatch.setattr(jax_device, "devices", lambda platform: jax.devices())
    with jax_device.entered(cell, "gpu"):
        text = str(jax.make_jaxpr(lambda a: a @ a)(jnp.ones((4, 4))))
    assert f".{word}" in text or f"={word}" in text, text


def test_torch_gets_the_precision_of_products(monkeypatch):
    import torch

    from optbench.engines import torch as torch_engine

    calls = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", calls.append)
    before = torch.backends.cudnn.allow_tf32
    try:
        for precision in ("float32", "tensorfloat32", "bfloat16"):
            cell = Cell(TINY_MLP, optimizers.parse("adam"), framework="torch", precision=precision)
            rounds = precision != "float32"
            torch.backends.cudnn.allow_tf32 = not rounds
            torch_engine.entered(cell, "cpu")
            assert torch.backends.cudnn.allow_tf32 is not rounds, "nothing changes on a CPU"
            torch_engine.entered(cell, "gpu")
            assert torch.backends.cudnn.allow_tf32 is rounds
    finally:
        torch.backends.cudnn.allow_tf32 = before
    assert calls == ["highest", "high", "medium"]


# --- memory --------------------------------------------------------------------------------------------------


class Counting:
    """A device that counts its memory, as accelerators do."""

    def __init__(self):
        self.peak = 100

    def memory_stats(self):
        return {"peak_bytes_in_use": self.peak}


def test_the_memory_of_a_program_is_what_the_mark_rose_to(monkeypatch):
    device = Counting()
    monkeypatch.setattr(jax_device, "devices", lambda platform: [device])
    most = engine.watch_memory("gpu")
    assert most() is None, "an earlier program held as much; how much this one did, nobody knows"
    device.peak = 700
    assert most() == 700


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts what a process held")
def test_the_memory_of_a_program_on_a_cpu_is_how_much_its_process_grew():
    most = engine.watch_memory("cpu")
    large = np.ones(8_000_000)
    del large
    assert 60e6 < most() < 90e6
    assert engine.watch_memory("cpu")() < 30e6, "the mark is set back"


# --- the whole way -------------------------------------------------------------------------------------------

DISGUISE = """
import os, sys
from optbench.execute import devices

devices.equipped = lambda framework: True
devices.ask = lambda framework: [devices.CPU, devices.Device("gpu", "a CPU in disguise", 2, 10**9)]

class Finder:
    "Once jax is imported, its one CPU device that this process may see is the gpu."
    def find_spec(self, name, path=None, target=None):
        if name == "optbench.engines.jax":
            import jax
            real, own = jax.devices, int(os.environ["CUDA_VISIBLE_DEVICES"])
            jax.devices = lambda platform=None: real("cpu")[own:own + 1] if platform == "gpu" else real(platform)
            from optbench.engines import jax_device, measured
            facts = jax_device.device_facts
            jax_device.device_facts = lambda device: {**facts(device), "device_kind": "a CPU in disguise"}
            measured.SIDES["gpu"], measured.PEAK_FROM = 256, 0.0
sys.meta_path.insert(0, Finder())
"""


def test_a_run_on_two_accelerators(tmp_path):
    """The whole pipeline: a worker on each, lanes side by side, rows kept under the device's kind."""
    (tmp_path / "sitecustomize.py").write_text(DISGUISE)
    words = "--opt adam,sgd --lr 0.01,0.1 --seeds 2 --steps 4 --precision tensorfloat32"
    variables = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "JAX_PLATFORMS": "cpu"}
    flags = "--xla_force_host_platform_device_count=2"
    what = ("run", "--task", "mlp[width=8,layers=1,batch=16]", *words.split())
    done = command(*what, cwd=tmp_path, XLA_FLAGS=flags, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in 2 programs on 2 workers (a CPU in disguise)" in done.stdout
    assert " examples/s" in done.stdout
    store = Store(tmp_path / "results")
    frame = store.frame()
    assert set(frame["mode"]) == {"vmap"}
    assert set(frame["device"]) == {"cpu:0", "cpu:1"}
    assert set(frame["status"]) == {"done"}
    assert set(frame["unit"]) == {"examples"}
    np.testing.assert_allclose(frame["examples_per_second"], frame["steps_per_second"] * 16)
    np.testing.assert_allclose(
        frame["peak_fraction"], frame["flops_per_second"] / frame["peak_flops_per_second"]
    )
    assert (frame["flops_per_second"] > 0).all()


def accelerator() -> Device | None:
    """A real one, if jax has it here."""
    found = devices.ask("jax")[0] if devices.equipped("jax") else CPU
    return None if found == CPU else found


@pytest.mark.skipif(accelerator() is None, reason="there is no accelerator here")
@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_a_run_on_a_real_accelerator(framework, tmp_path):
    asked = Request(
        task=("mlp", "quadratic_100"),
        opt=("adam", "sgd"),
        lr=("0.01",),
        seeds=2,
        steps=20,
        framework=framework,
        device="gpu",
        results=str(tmp_path),
    )
    session = Session(asked)
    assert [event.facts for event in session.run() if event.kind == "failed"] == []
    frame = session.frame()
    assert set(frame["status"]) == {"done"}
    assert (frame["device_peak_bytes"].dropna() > 0).all()
    assert (frame[frame["task"] == "mlp"]["peak_fraction"] > 0).all()
