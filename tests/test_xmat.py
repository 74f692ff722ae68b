"""PSGD XMat in JAX against psgd-jax 0.2.9 and 0.1.0, trace by trace."""

import pytest

from optbench.optimizers.xmat.jax import xmat
from tests import groups, traces


@pytest.mark.parametrize("case", traces.cases("psgd_xmat"))
def test_xmat_holds_the_golden_trace(case):
    groups.replay(xmat, traces.load("psgd_xmat")[case], lambda state: state.factors[0])
