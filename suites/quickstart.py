"""Which of these optimizers should I try first, and how carefully must I tune it?

Two quadratics, Rosenbrock in 2 and 100 dimensions, and three small networks on real data: a multilayer perceptron and a
residual network on digits, a transformer on text. Nine learning rates over four decades, on two seeds, choose; the
winner and the untuned default report on five fresh seeds. One to three minutes on two cores. The first four tasks
are toys: they show how a method behaves, not how it will rank on your problem.

    optbench run --suite quickstart --opt kron,adam,novograd
"""

from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task

TOYS = ("rosenbrock_2", "quadratic_10", "quadratic_100", "rosenbrock_100")

suite = Suite(
    name="quickstart",
    tasks=tuple(map(task, (*TOYS, "mlp", "resnet_quick", "transformer_8"))),
    optimizers=tuple(map(optimizer, ("kron", "adam", "sgd"))),
    fresh=True,
    choosing=2,
)
