"""Do the JAX and the PyTorch version of each optimizer give the same losses?

Every optimizer that is offered in both frameworks and is not for small problems only, from the same parameters,
batches and noise, in float64. Two runs of one method diverge even when nothing is wrong, because rounding is
amplified. Three twins in JAX, whose parameters are moved by one rounding at the start and after every step, measure
how fast. The frameworks may be ten times as far apart as the twins. About ten minutes on two cores, nearly all of it
compilation; exit code 1 if one optimizer diverges faster.

The steps of Rprop, which is made for full batches, are bounded: otherwise gradients become as small as 1e-280, where
the frameworks underflow differently and no longer agree on a sign.

    optbench run --suite parity
"""

from optbench.optimizers import names, parse
from optbench.protocol import FRAMEWORKS
from optbench.suite import Suite
from optbench.tasks import parse as task

TRANSFORMER = "transformer[d_model=16,layers=1,heads=2,context=12,batch=4]"
TASKS = ("quadratic_10", "rosenbrock_2", "mlp[width=32]", "resnet[width=4,batch=8]", TRANSFORMER)
OPTIMIZERS = (o for o in names().values() if o.frameworks() == FRAMEWORKS and o.parity and not o.dense)

suite = Suite(
    name="parity",
    tasks=tuple(map(task, TASKS)),
    optimizers=tuple(parse("rprop[max_step=0.05]") if o.name == "rprop" else o for o in OPTIMIZERS),
    trials=1, seeds=2, dtype="float64", steps=150, twins=3,
)  # fmt: skip
