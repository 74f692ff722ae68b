"""Which optimizer trains a small language model best, and how carefully must it be tuned?

Transformers of one and two layers that predict the next character of real English, the text of Python's help();
nine learning rates over four decades with a linear warmup and a cosine, five seeds. Some twenty-five minutes on two
cores. Muon has Moonshot's scale: by its default, embeddings and heads go at 0.015 of its learning rate (on
transformer_tiny validation loss 2.63 in place of 2.24).

    optbench run --suite language --opt kron,adam,novograd

With data in a local folder (see the README), tiny Shakespeare or any text or tokens:

    optbench run --suite language --task 'transformer[dataset=shakespeare]' --data DIR --opt kron,adam
"""

from optbench.cell import Schedule
from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task

LISTED = ("kron", "adam", "lion[weight_decay=0]", "novograd", "muon[scale=moonshot]", "soap[weight_decay=0]")

suite = Suite(
    name="language",
    tasks=(task("transformer_tiny"), task("transformer")),
    optimizers=tuple(map(optimizer, LISTED)),
    schedule=Schedule("cosine", warmup=0.1),
)
