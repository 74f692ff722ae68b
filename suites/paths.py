"""Which path does each optimizer take?

Two functions of two numbers, a curved valley and a rotated bowl, at nine learning rates. A few seconds for each
optimizer on two cores. Nothing is random and both are toys: this is for illustration, not for ranking.
`optbench report` draws the path of each optimizer.

    optbench run --suite paths --opt kron,adam,novograd
"""

from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task

suite = Suite(
    name="paths",
    tasks=(task("valley"), task("bowl")),
    optimizers=tuple(map(optimizer, ("kron", "adam", "sgd"))),
    seeds=1,
)
