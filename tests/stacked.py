"""Which torch optimizers move each number by the history of its own gradient alone: found by stepping them."""

import numpy as np
import torch

from optbench.optimizer import Optimizer
from optbench.protocol import Setting
from optbench.rules.torch import SeedNoise

STEPS, LANES, SIZE = 12, 3, (5, 4)


class AskedForMore(Exception):
    """One gradient was not enough."""


class Fixed:
    def __init__(self, grads):
        self.grads = [grads]

    def value_and_grad(self, params):
        if not self.grads:
            raise AskedForMore
        return torch.tensor(1.0), {"x": self.grads.pop().clone()}

    def value_and_graph(self, params):
        raise AskedForMore

    def value_grad_hvp(self, params, vector):
        raise AskedForMore


def moved(optimizer: Optimizer, grads: torch.Tensor) -> torch.Tensor:
    """Where the zeros end after following these gradients [steps, ...]."""
    rule = optimizer.torch(Setting(lambda t: 1.0, SeedNoise(0), STEPS))
    params = {"x": torch.zeros_like(grads[0], requires_grad=True)}
    state = rule.init(params)
    for t, grad in enumerate(grads):
        rule.step(params, state, Fixed(grad), t)
    return params["x"].detach()


def is_elementwise(optimizer: Optimizer) -> bool:
    """Whether lanes that are stacked end where each of them ends alone, to the last bit."""
    rng = np.random.default_rng(0)
    scales = np.array([1e-2, 1.0, 30.0]).reshape(1, LANES, *[1] * len(SIZE))
    grads = torch.tensor(rng.standard_normal((STEPS, LANES, *SIZE)) * scales, dtype=torch.float32)
    try:
        together = moved(optimizer, grads)
        alone = torch.stack([moved(optimizer, grads[:, lane]) for lane in range(LANES)])
        # A number's place must not matter either: the same gradients, laid out as one row.
        flat = moved(optimizer, grads.reshape(STEPS, LANES, -1)).reshape(alone.shape)
    except AskedForMore:
        return False
    return torch.equal(together, alone) and torch.equal(flat, alone)
