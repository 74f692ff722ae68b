"""The pieces of standard methods that torch.optim has otherwise than it should."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


def nadam(params: Iterable[torch.Tensor], **options: Any) -> torch.optim.NAdam:
    """torch.optim.NAdam whose product of momenta is as exact as the parameters; torch keeps it in float32."""
    optimizer = torch.optim.NAdam(params, **options)
    for param in (param for group in optimizer.param_groups for param in group["params"]):
        optimizer.state[param] = {
            "step": torch.tensor(0.0),
            "mu_product": torch.ones((), dtype=param.dtype),
            "exp_avg": torch.zeros_like(param, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(param, memory_format=torch.preserve_format),
        }
    return optimizer
