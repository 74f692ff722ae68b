"""Which of forty optimizers leads, how sure is that, and what does it cost?

Forty methods on twelve tasks: three transformers on text, two residual networks and two perceptrons on digits, a deep
autoencoder, a recurrent network, a model of sparse features, a regression with heavy-tailed classes and an
ill-conditioned quadratic. Everywhere both under a constant learning rate and under a cosine with warmup. Sixteen
quasi-random trials, thirty on the last two, which are toys, choose on two seeds; the winner and the untuned default
report on six fresh seeds. Every method is searched in two dimensions: the learning rate, over four decades, and the
momentum, or what a method without one declares in its place. Other hyperparameters have their defaults, weight decay
is off, and what muon and normuon leave to adam (embeddings and heads) goes at their own learning rate: the 0.015 of it
that is their default is far too little for models this small. Some two hours on two cores (`--dry-run` predicts them);
it can be interrupted, goes on where it was, and can be cut into shards (docs/clusters.md).

    optbench run --suite grand --results reports/grand/rows
"""

from optbench.cell import Schedule
from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task

LISTED = """
    sgd nesterov signum lion[weight_decay=0] adagrad rmsprop adafactor sm3
    adam amsgrad nadam radam adabelief yogi adan adopt ademamix adam_mini novograd expectigrad
    lars lamb mars madgrad prodigy schedule_free_sgd schedule_free_adamw adam+cautious
    muon[scale=moonshot] normuon[aux_scale=1] dion[weight_decay=0] scion soap[weight_decay=0] shampoo
    kron kron_dq xmat lra esgd sophia[weight_decay=0]
"""
TASKS = """
    transformer_8
    transformer[d_model=32,layers=1,heads=2,context=16,batch=8]
    transformer[d_model=16,layers=2,heads=2,context=16,batch=8]
    resnet_quick
    resnet[width=8,batch=16,augment=False]
    mlp[width=64,batch=64]
    mlp[width=32,layers=4,batch=64]
    autoencoder[batch=50]
    xor_rnn[length=8,units=16,batch=32]
    ngrams
    zipf
    quadratic_100
"""

suite = Suite(
    name="grand",
    tasks=tuple(map(task, TASKS.split())),
    optimizers=tuple(map(optimizer, LISTED.split())),
    schedule=(Schedule(), Schedule("cosine", warmup=0.1)),
    seeds=6,
    steps={"autoencoder[batch=50]": 400, "xor_rnn[length=8,units=16,batch=32]": 500, "quadratic_100": 1000},
    tuning="quasi",
    trials=16,
    toy_trials=30,
    dimensions=2,
    fresh=True,
    choosing=2,
)
