"""Does an advantage last: with more steps, larger batches, more width?

Three axes, on each of which every optimizer is tuned anew at every place (nine learning rates on two seeds choose,
five fresh seeds report): a transformer over 250 to 2,000 steps, each with a whole cosine; a network on digits with
batches of 4 to 256; transformers of width 12 to 48, the steps in proportion to the number of parameters, by the
standard rules and by those of muP. And a quadratic whose law under gradient descent is known, which tests the fits.
Some ten minutes on two cores. Muon has Moonshot's scale: by its default, embeddings and heads go at 0.015 of its
learning rate, far too little for models this small.

    optbench run --suite scaling --opt 'muon[scale=moonshot],soap,kron,adamw'
    optbench run --suite scaling --opt kron,adamw --axis horizon
"""

import itertools

from optbench.cell import Schedule
from optbench.optimizers import parse as optimizer
from optbench.suite import Suite
from optbench.tasks import parse as task

LISTED = ("muon[scale=moonshot]", "soap[weight_decay=0]", "kron", "adamw[weight_decay=0]")
HORIZONS = (250, 500, 1000, 2000)
WIDTHS = {12: 60, 24: 240, 48: 960}
"""Steps by width: hidden matrices have width squared parameters."""
BASE = "transformer[layers=1,heads=2,context=16,batch=8,d_model={},mup={}]"

over_steps, known = task("transformer_8"), task("power_law")
over_width = {task(BASE.format(w, mup)): steps for mup in (0, min(WIDTHS)) for w, steps in WIDTHS.items()}
over_batches = tuple(task(f"mlp[width=32,batch={batch}]") for batch in (4, 16, 64, 256))

axes = {
    "horizon": (over_steps,),
    "batch": over_batches,
    "width": tuple(over_width),
    "law": (known,),
}
suite = Suite(
    name="scaling",
    tasks=tuple(itertools.chain(*axes.values())),
    axes=axes,
    optimizers=tuple(map(optimizer, LISTED)),
    schedule=Schedule("cosine", warmup=0.1),
    steps={
        over_steps.label(): HORIZONS,
        known.label(): HORIZONS,
        **{each.label(): 1000 for each in over_batches},
        **{each.label(): steps for each, steps in over_width.items()},
    },
    fresh=True,
    choosing=2,
)
