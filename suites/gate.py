"""Has an optimizer silently become worse?

A quadratic and Rosenbrock at three learning rates and three seeds, every listed optimizer. About
fifteen seconds on two cores. `optbench check` runs it and compares with results/baselines/gate.tsv.

    optbench check
"""

from optbench.optimizers import listed
from optbench.suite import Suite
from optbench.tasks import parse as task

suite = Suite(
    name="gate",
    tasks=(task("quadratic_10"), task("rosenbrock_2")),
    optimizers=tuple(listed().values()),
    trials=3, seeds=3, steps=600,
)  # fmt: skip
