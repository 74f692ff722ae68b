"""How many steps, images and tokens a second, and what does an optimizer add to the gradient?

One learning rate and one seed of networks of four kinds and three sizes, for 100 steps: only the times matter, not the
losses. Compare within one idle machine. About two minutes on two cores, most of it compilation.

    optbench run --suite throughput --opt kron,adam,novograd
"""

from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task

TRANSFORMERS = ("transformer_tiny", "transformer", "transformer[d_model=128]")

suite = Suite(
    name="throughput",
    tasks=tuple(map(task, ("mlp", "mlp[width=512]", "resnet_tiny", "resnet", *TRANSFORMERS))),
    optimizers=tuple(map(optimizer, ("sgd", "adam", "novograd", "kron", "lra", "esgd"))),
    trials=1, seeds=1, steps=100,
)  # fmt: skip
