"""PSGD LRA against psgd-jax 0.2.9, trace by trace."""

import pytest

from optbench.optimizers.lra.jax import low_rank_approximation
from tests import groups, traces


@pytest.mark.parametrize("case", traces.cases("psgd_lra"))
def test_lra_holds_the_golden_trace(case):
    groups.replay(low_rank_approximation, traces.load("psgd_lra")[case], lambda state: state.factors[0])
