"""Methods written once against traces of their originals, in both frameworks; where optax gives one, that too."""

import pytest

from optbench import optimizers
from optbench.optimizers.leafwise.jax import transformation
from optbench.optimizers.leafwise.torch import class_of
from optbench.rules.optax import KeyNoise
from tests import originals

BETAS = ("b1", "b2", "b3")
NAMES: dict[str, dict[str, str]] = {"soap": {}}
"""How we call what an original calls otherwise."""


def method(name: str, trace: originals.Trace):
    """Our optimizer with the options of a trace."""
    given = dict(trace.hyperparameters)
    given |= dict(zip(BETAS, given.pop("betas", ()), strict=False))
    renamed = {"lr": "learning_rate", **NAMES[name]}
    return optimizers.parse(name).replace(**{renamed.get(key, key): value for key, value in given.items()})


def every():
    return [(name, case) for name in NAMES for case in originals.cases(name)]


@pytest.mark.parametrize(("name", "case"), every())
def test_torch_holds_the_trace(name, case):
    trace = originals.load(name, case)
    ours = method(name, trace)
    options = ours.options()
    originals.replay_torch(trace, lambda named: class_of(type(ours))(named, ours.learning_rate, **options))


@pytest.mark.parametrize(("name", "case"), every())
def test_jax_holds_the_trace(name, case):
    trace = originals.load(name, case)
    ours = method(name, trace)
    originals.replay_jax(trace, transformation(ours, ours.learning_rate, None, KeyNoise.seeded(0)))
