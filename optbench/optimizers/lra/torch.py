"""PSGD LRA as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.lra`."""

from optbench.optimizers import lra
from optbench.optimizers.psgd.torch import GroupPreconditioner, group_class


@group_class(lra.LRA, lra.LowRank)
class LRA(GroupPreconditioner):
    """PSGD LRA: Q = (I + U V^T) diag(d) on each param group as one vector."""
