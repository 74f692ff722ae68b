"""PSGD Affine as a torch.optim optimizer; the mathematics is on the page of `optbench.optimizers.affine`."""

from optbench.optimizers import affine
from optbench.optimizers.psgd.torch import GroupPreconditioner, group_class


@group_class(affine.Affine, affine.Sided)
class Affine(GroupPreconditioner):
    """PSGD Affine: each parameter as a matrix, with a triangular or diagonal factor on either side."""
