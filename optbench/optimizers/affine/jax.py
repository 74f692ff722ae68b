"""PSGD Affine as an optax transformation; the mathematics is on the page of `optbench.optimizers.affine`."""

from optbench.optimizers.affine import Affine, Sided
from optbench.optimizers.psgd.jax import factories

affine, scale_by_affine = factories(
    Affine, Sided, "Affine: each leaf as a matrix, with a triangular or diagonal factor on either side"
)
