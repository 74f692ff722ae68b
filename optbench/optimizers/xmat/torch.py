"""PSGD XMat as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.xmat`."""

from optbench.optimizers import xmat
from optbench.optimizers.psgd.torch import GroupPreconditioner, group_class


@group_class(xmat.XMat, xmat.XGroup)
class XMat(GroupPreconditioner):
    """PSGD XMat: Q = diag(a) + antidiag(b) on each param group as one vector."""
