"""Which way does each optimizer take?

Two functions of two numbers, a curved valley and a bowl that lies askew, at nine learning rates. A few seconds for each
optimizer on two cores. Nothing is random and both are toys: this is for looking, not for ranking. `optbench report`
draws the paths of the optimizers that it shows.

    optbench run --suite paths --opt kron,adam,novograd
"""

from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task

suite = Suite(
    name="paths",
    tasks=(task("valley"), task("bowl")),
    optimizers=(optimizer("kron"), optimizer("adam"), optimizer("sgd")),
    seeds=1,
)
