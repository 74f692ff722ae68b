"""KronTorch against kron-torch 0.3.3, trace by trace."""

import numpy as np
import pytest
import torch

from optbench.optimizers.kron.torch import precond_update_prob_schedule
from optbench.optimizers.kron.torch_kron_torch import KronTorch
from tests import traces


@pytest.mark.parametrize("case", traces.cases("kron_torch"))
def test_kron_torch_holds_the_golden_trace(case):
    trace = traces.load("kron_torch")[case]
    given = dict(trace["hyperparameters"], upstream=True)
    probability = given.get("preconditioner_update_probability")
    if isinstance(probability, dict):
        given["preconditioner_update_probability"] = precond_update_prob_schedule(
            **probability["precond_update_prob_schedule"]
        )
    if "precond_dtype" in given:
        given["precond_dtype"] = getattr(torch, given["precond_dtype"])
    shapes = {name: state["momentum_buffer"]["shape"] for name, state in trace["steps"][0]["state"].items()}

    def state_of(optimizer, params):
        return {
            name: {
                "momentum_buffer": optimizer.state[p]["mu"].reshape(shapes[name]),
                "Q": optimizer.state[p]["Q"],
            }
            for name, p in params.items()
        }

    seen = []
    traces.replay_torch(
        trace,
        lambda named, noise: KronTorch(named, noise=noise, **given),
        state_of,
        before=lambda optimizer, step: seen.append((step, optimizer.param_groups[0]["params"])),
    )
    step, params = seen[-1]
    for name, param in zip(trace["leaf_order"], params, strict=True):
        wanted = step["grads_after_step"][name]
        if given.get("momentum_into_precond_update", True):
            wanted = np.asarray(step["grads"][name])
        traces.close(param.grad, wanted, trace["dtype"], f"{name} gradient after the step")


def test_the_gradient_stays_as_it_was():
    param = torch.ones(3, 2, requires_grad=True)
    param.grad = torch.ones(3, 2)
    KronTorch([param], momentum_into_precond_update=False).step()
    assert torch.equal(param.grad, torch.ones(3, 2))
    assert torch.isfinite(param).all()
