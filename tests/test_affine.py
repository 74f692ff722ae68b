"""PSGD Affine against psgd-jax 0.2.9, trace by trace."""

import pytest

from optbench.optimizers.affine.jax import affine
from tests import groups, traces


@pytest.mark.parametrize("case", traces.cases("psgd_affine"))
def test_affine_holds_the_golden_trace(case):
    trace = traces.load("psgd_affine")[case]
    leaves = trace["leaf_order"]

    def factors(state):
        pairs = zip(leaves, state.factors, strict=True)
        return {"Q": {name: [each["left"], each["right"]] for name, each in pairs}}

    groups.replay(affine, trace, factors)
