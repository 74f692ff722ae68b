"""torch.distributed.checkpoint: saved on 4 processes, loaded on 2 and on 1, the path goes on as if nothing had been."""

from __future__ import annotations

import functools
import tempfile
import warnings
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from optbench.conformance import Inapplicable
from optbench.conformance.problem import apart
from optbench.conformance.torch import Subject
from optbench.conformance.torch_crew import crew, mesh
from optbench.conformance.torch_sharding import SHARDED, STEPS, Trained, travels
from optbench.optimizer import Optimizer

WARM = 3


def state_of(trained: Trained) -> dict[str, Any]:
    model, optimizer = get_state_dict(trained.module, trained.state)
    return {"model": model, "optimizer": optimizer}


def saved(optimizer: Optimizer, folder: str) -> dict[str, np.ndarray]:
    """On all processes: some steps, a checkpoint, some more steps."""
    mesh(4)
    trained = Trained(optimizer, 4)
    trained.go(WARM)
    save(state_of(trained), checkpoint_id=folder)
    trained.go(STEPS, WARM)
    return trained.numbers()


def loaded(optimizer: Optimizer, folder: str, size: int) -> dict[str, np.ndarray] | None:
    """On some processes, or whole on one: the checkpoint into a fresh module and optimizer, and the same steps."""
    group = mesh(size) if size > 1 else None
    if group is not None and dist.get_rank() >= size:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = Trained(optimizer, size)
        state = state_of(trained)
        how: dict[str, Any] = {"no_dist": True} if group is None else {"process_group": group.get_group()}
        load(state, checkpoint_id=folder, **how)
        set_state_dict(
            trained.module,
            trained.state,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )
    trained.go(STEPS, WARM)
    return trained.numbers()


def resumed(subject: Subject, size: int) -> str:
    optimizer = travels(subject)
    if subject.needs_closure:
        raise Inapplicable(
            "Its state is of the line search, which torch.distributed.checkpoint does not know."
        )
    with tempfile.TemporaryDirectory() as folder:
        whole = crew().call(saved, optimizer, folder)[0]
        again: Any = (
            loaded(optimizer, folder, 1) if size == 1 else crew().call(loaded, optimizer, folder, size)[0]
        )
    gap, bound = apart(whole, again), subject.bound(SHARDED, WARM + STEPS)
    assert gap <= bound, (
        f"Saved on 4 processes after {WARM} steps and loaded on {size}, it is {gap:.1e} off after {STEPS} more; "
        f"rounding carries a path {bound / 10:.1e}."
    )
    return f"Saved on 4 processes and loaded on {size} it goes on as it was."


check_dcp_2 = functools.partial(resumed, size=2)
check_dcp_1 = functools.partial(resumed, size=1)
