"""PSGD Affine in both frameworks against psgd-jax 0.2.9, trace by trace."""

import pytest

from tests import groups, traces

QUICK = ("affine_alldiag_stream_f32", "affine_readme_hessian_f64")


@pytest.mark.parametrize("case", groups.mostly_slow("psgd_affine", QUICK))
def test_affine_in_jax_holds_the_golden_trace(case):
    from optbench.optimizers.affine.jax import affine

    trace = traces.load("psgd_affine")[case]
    leaves = trace["leaf_order"]

    def factors(state):
        pairs = zip(leaves, state.factors, strict=True)
        return {"Q": {name: [each["left"], each["right"]] for name, each in pairs}}

    groups.replay(affine, trace, factors)


@pytest.mark.parametrize("case", traces.cases("psgd_affine"))
def test_affine_in_torch_holds_the_golden_trace(case):
    from optbench.optimizers.affine.torch import Affine

    def factors(optimizer, params):
        held = {name: optimizer.state[p]["factors"] for name, p in params.items()}
        return {"Q": {name: [each["left"], each["right"]] for name, each in held.items()}}

    groups.replay_torch(Affine, traces.load("psgd_affine")[case], factors)
