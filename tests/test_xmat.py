"""PSGD XMat in both frameworks against psgd-jax 0.2.9 and 0.1.0, trace by trace."""

import pytest

from tests import groups, traces

QUICK = ("xmat_default_mlp_f64", "xmat_hessian_prob0p3_rosen_f32", "xmat010_readme_hessian_f64")


@pytest.mark.parametrize("case", groups.mostly_slow("psgd_xmat", QUICK))
def test_xmat_in_jax_holds_the_golden_trace(case):
    from optbench.optimizers.xmat.jax import xmat

    groups.replay(xmat, traces.load("psgd_xmat")[case], lambda state: state.factors[0])


@pytest.mark.parametrize("case", traces.cases("psgd_xmat"))
def test_xmat_in_torch_holds_the_golden_trace(case):
    from optbench.optimizers.xmat.torch import XMat

    groups.replay_torch(XMat, traces.load("psgd_xmat")[case], groups.first_factors)
