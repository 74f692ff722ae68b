"""Transformer and residual networks, against the same networks as people write them."""

import pytest

from tests import datafiles
from tests.bench.apart import Apart
from tests.bench.baselines import grid, loops, same_losses


@pytest.mark.parametrize("width", [64, 128])
def test_transformer(width, race, goals):
    """The engine in a worker that keeps memory; products over [b, t, d] in a process like any other."""
    cells = grid(f"transformer[d_model={width},context={width}]", rates=1, seeds=1, steps=5)
    with Apart(roomy=True) as worker, Apart() as process:
        made = {"engine": worker.contestant("engine", cells)}
        made |= {name: process.contestant(name, cells) for name in ("naive", "scan")}
        same_losses(made, 5)
        goals.faster(f"transformer, d={width}, adam", race(made), "naive", 1.8)


def test_small_images_are_unfolded(race, goals):
    cells = grid("resnet", rates=1, seeds=1, steps=20)
    goals.faster("resnet, 8x8, adam", race(loops(cells, ("engine", "naive"), 10)), "naive", 1.5)


def test_larger_images_are_stepped(race, goals, monkeypatch, tmp_path):
    """A loop that waits for nothing, against one that waits for each loss."""
    datafiles.cifar_binary(tmp_path, images=64)
    monkeypatch.setenv("OPTBENCH_DATA", str(tmp_path))
    cells = grid("resnet[dataset=cifar10,batch=16]", rates=1, seeds=1, steps=5)
    goals.faster("resnet, 32x32, adam", race(loops(cells, ("engine", "naive"), 5)), "naive", 0.95)
