"""Which of these optimizers should I try first, and how carefully must I tune it?

Two quadratics, Rosenbrock in 2 and 100 dimensions, and three small networks on real data: a multilayer perceptron and a
residual network on digits, a transformer on text; nine learning rates over four decades, five seeds. A little over
a minute on two cores. The first four tasks are toys: they show how a method behaves, not how it will rank on your
problem.

    optbench run --suite quickstart --opt kron,adam,novograd
"""

from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task

suite = Suite(
    name="quickstart",
    tasks=(
        task("rosenbrock_2"),
        task("quadratic_10"),
        task("quadratic_100"),
        task("rosenbrock_100"),
        task("mlp"),
        task("resnet_quick"),
        task("transformer_8"),
    ),
    optimizers=(optimizer("kron"), optimizer("adam"), optimizer("sgd")),
)
