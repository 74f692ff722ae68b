"""PSGD LRA as an optax transformation; the mathematics is on the page of `optbench.optimizers.lra`."""

from optbench.optimizers.lra import LRA, LowRank
from optbench.optimizers.psgd.jax import factories

low_rank_approximation, scale_by_lra = factories(
    LRA, LowRank, "LRA: Q = (I + U V^T) diag(d) on all leaves as one vector", "low_rank_approximation"
)
lra = low_rank_approximation
