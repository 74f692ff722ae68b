"""Which optimizer trains image classifiers best, and how carefully must it be tuned?

A multilayer perceptron and two residual networks, of 8 and 14 layers, on real handwritten digits of 8 x 8 pixels; nine
learning rates over four decades, five seeds. Some twenty-five minutes on two cores.

    optbench run --suite vision --opt kron,adam,novograd

With data in a local folder (see the README), the same networks on larger images; hours on two cores, made for a GPU:

    optbench run --suite vision --task 'resnet[dataset=cifar10,depth=20,batch=128]' --data DIR --opt kron,adam,novograd
"""

from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task

LISTED = ("kron", "adam", "sgd", "nesterov", "novograd", "muon", "soap[weight_decay=0]")

suite = Suite(
    name="vision",
    tasks=(task("mlp"), task("resnet"), task("resnet_14")),
    optimizers=tuple(map(optimizer, LISTED)),
)
