"""PSGD LRA in both frameworks against psgd-jax 0.2.9, trace by trace."""

import pytest

from tests import groups, traces

QUICK = ("lra_r2_balance_forced_quad_f64", "lra_r1_hessian_readme_f32")


@pytest.mark.parametrize("case", groups.mostly_slow("psgd_lra", QUICK))
def test_lra_in_jax_holds_the_golden_trace(case):
    from optbench.optimizers.lra.jax import low_rank_approximation

    groups.replay(low_rank_approximation, traces.load("psgd_lra")[case], lambda state: state.factors[0])


@pytest.mark.parametrize("case", traces.cases("psgd_lra"))
def test_lra_in_torch_holds_the_golden_trace(case):
    from optbench.optimizers.lra.torch import LRA

    groups.replay_torch(LRA, traces.load("psgd_lra")[case], groups.first_factors)
