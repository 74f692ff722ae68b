"""The classes of methods written once, such as `SOAP` and `Muon`; and what torch.optim has otherwise.

from optbench.optimizers.standard.torch import SOAP
optimizer = SOAP(model.named_parameters(), lr=3e-3)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from optbench.optimizers.leafwise import Leafwise


def __getattr__(name: str) -> Any:
    """The class of a method that is written once, by its name."""
    from optbench.optimizers.leafwise.torch import class_of
    from optbench.optimizers.standard import CLASSES

    for declared in CLASSES:
        if declared.__name__ == name and issubclass(declared, Leafwise):
            return class_of(declared)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def nadam(params: Iterable[torch.Tensor], **options: Any) -> torch.optim.NAdam:
    """torch.optim.NAdam whose product of momenta is as exact as the parameters; torch keeps it in float32."""
    optimizer = torch.optim.NAdam(params, **options)
    for param in (param for group in optimizer.param_groups for param in group["params"]):
        optimizer.state[param] = {
            "step": torch.tensor(0.0),
            "mu_product": torch.ones((), dtype=param.dtype),
            "exp_avg": torch.zeros_like(param),
            "exp_avg_sq": torch.zeros_like(param),
        }
    return optimizer
