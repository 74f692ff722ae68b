"""PSGD LRA as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.lra`."""

from __future__ import annotations

from optbench.optimizers.lra import LRA as Declared
from optbench.optimizers.lra.group import LowRank
from optbench.optimizers.psgd.torch import GroupPreconditioner, group_class


@group_class(Declared, LowRank)
class LRA(GroupPreconditioner):
    """PSGD LRA: Q = (I + U V^T) diag(d) on each param group as one vector."""
