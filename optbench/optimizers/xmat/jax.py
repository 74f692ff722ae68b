"""PSGD XMat as an optax transformation; the mathematics is on the page of `optbench.optimizers.xmat`."""

from optbench.optimizers.psgd.jax import factories
from optbench.optimizers.xmat import XGroup, XMat

xmat, scale_by_xmat = factories(XMat, XGroup, "XMat: Q = diag(a) + antidiag(b) on all leaves as one vector")
