"""ESGD-M in PyTorch, as in its document: the cost of a product, and when it needs a graph."""

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
        made = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return {name: x.float() if x.is_floating_point() else x.long() for name, x in made.items()}

    data = tensors(given.data())
    draw = tensors({name: rows[0] for name, rows in given.draws(0, 0, 1).items()})
    params = {name: x.requires_grad_() for name, x in tensors(given.init(0)).items()}
    leaves = list(params.values())
    signs = [torch.ones_like(leaf) for leaf in leaves]

    def run(count: int, product: bool) -> None:
        for _ in range(count):
            grads = torch.autograd.grad(loss(params, data, draw), leaves, create_graph=product)
            if product:
                torch.autograd.grad(grads, leaves, signs)

    cases = {"gradient": lambda count: run(count, False), "both": lambda count: run(count, True)}
    return interleaved(cases, steps, rounds)


def graphs(steps: int) -> dict[str, Any]:
    """The steps on which `should_create_graph` requests a graph, and the error on such a step without one."""
    param = torch.ones(3, requires_grad=True)

    def step(optimizer: ESGD, create: bool) -> None:
        optimizer.zero_grad()
        with warnings.catch_warnings():
            # of the cycle that the document requires; zero_grad breaks it
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
