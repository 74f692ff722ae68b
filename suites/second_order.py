"""Where does curvature pay, and what does it cost?

The classics of second-order methods: a deep autoencoder (Hinton and Salakhutdinov; Martens), the delayed XOR of a
recurrent network at two lengths (the problem of PSGD's authors), a quadratic of condition 1e6 and Rosenbrock's valley
in 100 dimensions; nine learning rates over four decades, five seeds. The report has the cost of a step, in gradients
and in microseconds. About six minutes on two cores.

    optbench run --suite second-order --opt kron,esgd,adam
"""

from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task

suite = Suite(
    name="second-order",
    tasks=tuple(map(task, ("autoencoder", "xor_rnn", "xor_rnn_32", "quadratic_100_1e6", "rosenbrock_100"))),
    optimizers=tuple(map(optimizer, ("kron", "xmat", "esgd", "adam", "sgd"))),
)
