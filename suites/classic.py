"""How does each optimizer behave on functions whose every property is known?

Quadratics of condition numbers 1e2, 1e4 and 1e6 in 10 and 100 dimensions, one of 1,000 dimensions with clustered
eigenvalues, and Rosenbrock's valley in 2 to 1,000 dimensions; nine learning rates over four decades, five seeds.
All are toys: they show what conditioning, curvature and dimension do to a method, not how it will rank on a
network. About a minute on two cores.

    optbench run --suite classic --opt kron,adam,novograd
"""

from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task

QUADRATICS = ("quadratic_10", "quadratic_10_1e4", "quadratic_10_1e6", "quadratic_100_1e2", "quadratic_100")
VALLEYS = ("rosenbrock_2", "rosenbrock_10", "rosenbrock_100", "rosenbrock_1000")

suite = Suite(
    name="classic",
    tasks=tuple(map(task, (*QUADRATICS, "quadratic_100_1e6", "quadratic_1000", *VALLEYS))),
    optimizers=tuple(map(optimizer, ("kron", "adam", "sgd", "nesterov", "novograd"))),
)
