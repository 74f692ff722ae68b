"""Kron under DistributedDataParallel: two processes stay equal, and equal to one with the whole batch."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from optbench.optimizers.kron.torch import Kron

STEPS = 4


def trained(model, inputs, targets):
    optimizer = Kron(model.parameters(), lr=0.05)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def problem():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return model, torch.randn(8, 3), torch.randn(8, 2)


def worker(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model, inputs, targets = problem()
    ours = slice(4 * rank, 4 * rank + 4)
    wrapped = nn.parallel.DistributedDataParallel(model)
    torch.save(trained(wrapped, inputs[ours], targets[ours]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    torch.multiprocessing.spawn(worker, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, trained(*problem()), rtol=1e-4, atol=1e-5)
