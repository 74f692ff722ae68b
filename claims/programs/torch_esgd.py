"""ESGD-M in PyTorch, which its document speaks of: what a product costs and when it needs a graph."""

import warnings
from typing import Any

import torch

from optbench.optimizers.esgd.torch import ESGD
from optbench.tasks import parse as task

from . import interleaved


def product_cost(problem: str, steps: int, rounds: int) -> dict[str, Any]:
    """CPU microseconds of a training step: the gradient, and with create_graph and a product."""
    given = task(problem)
    loss = given.torch().loss

    def tensors(arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
        found = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return {name: x.float() if x.is_floating_point() else x.long() for name, x in found.items()}

    data = tensors(given.data())
    draw = tensors({name: rows[0] for name, rows in given.draws(0, 0, 1).items()})
    params = {name: x.requires_grad_() for name, x in tensors(given.init(0)).items()}
    leaves = list(params.values())
    signs = [torch.ones_like(leaf) for leaf in leaves]

    def gradient(count: int) -> None:
        for _ in range(count):
            torch.autograd.grad(loss(params, data, draw), leaves)

    def both(count: int) -> None:
        for _ in range(count):
            grads = torch.autograd.grad(loss(params, data, draw), leaves, create_graph=True)
            torch.autograd.grad(grads, leaves, signs)

    return interleaved({"gradient": gradient, "both": both}, steps, rounds)


def graphs(steps: int) -> dict[str, Any]:
    """On which steps `should_create_graph` asks for a graph, and what happens on those without one."""
    param = torch.ones(3, requires_grad=True)

    def step(optimizer: ESGD, create: bool) -> None:
        optimizer.zero_grad()
        with warnings.catch_warnings():
            # torch warns of the cycle that the document asks for; zero_grad ends it
            warnings.filterwarnings("ignore", "Using backward\\(\\) with create_graph=True", UserWarning)
            (param**4).sum().backward(create_graph=create)
        optimizer.step()

    optimizer, requested, error = ESGD([param]), [], ""
    for t in range(1, steps + 1):
        create = optimizer.should_create_graph()
        step(optimizer, create)
        requested += [t] * create
    try:
        step(ESGD([param]), create=False)
    except RuntimeError as raised:
        error = str(raised)
    return {"steps": requested, "of": steps, "error": error}
