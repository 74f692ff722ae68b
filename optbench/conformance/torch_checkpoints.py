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

from optbench.conformance import assume, problem
from optbench.conformance.torch import Subject
from optbench.conformance.torch_crew import mesh, together
from optbench.conformance.torch_sharding import SHARDED, STEPS, Trained, travels
from optbench.optimizer import Optimizer

WARM = 3


def state_of(trained: Trained) -> dict[str, Any]:
    states = get_state_dict(trained.module, trained.state)
    return dict(zip(("model_state_dict", "optim_state_dict"), states, strict=True))


def saved(optimizer: Optimizer, folder: str) -> dict[str, np.ndarray]:
    """On all processes: some steps, a checkpoint, some more steps."""
    mesh(4)
    trained = Trained(optimizer, 4)
    trained.go(WARM)
    save(state_of(trained), checkpoint_id=folder)
    return trained.go(STEPS, WARM)[-1]


def loaded(optimizer: Optimizer, folder: str, size: int) -> Any:
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
        set_state_dict(trained.module, trained.state, **state)
    return trained.go(STEPS, WARM)[-1]


def resumed(subject: Subject, size: int) -> str:
    optimizer = travels(subject)
    assume(
        not subject.needs_closure,
        "Its state is of the line search, which torch.distributed.checkpoint does not know.",
    )
    with tempfile.TemporaryDirectory() as folder:
        whole = together(saved, optimizer, folder)[0]
        again = loaded(optimizer, folder, 1) if size == 1 else together(loaded, optimizer, folder, size)[0]
    growth = subject.growth(SHARDED, WARM + STEPS)
    return problem.resumed("4 processes", size, whole, again, growth, WARM, STEPS)


check_dcp_2 = functools.partial(resumed, size=2)
check_dcp_1 = functools.partial(resumed, size=1)
