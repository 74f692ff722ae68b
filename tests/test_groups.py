"""PSGD LRA, XMat and Affine in both frameworks against psgd-jax 0.2.9 (and XMat 0.1.0), trace by trace."""

import importlib

import pytest

from tests import groups, traces

ROOMS = {"lra": ("low_rank_approximation", "LRA"), "xmat": ("xmat", "XMat"), "affine": ("affine", "Affine")}
"""The factory for optax and the class for torch.optim."""
QUICK = (
    "lra_r2_balance_forced_quad_f64",
    "lra_r1_hessian_readme_f32",
    "xmat_default_mlp_f64",
    "xmat_hessian_prob0p3_rosen_f32",
    "xmat010_readme_hessian_f64",
    "affine_alldiag_stream_f32",
    "affine_readme_hessian_f64",
)
"""In JAX by default: each trace costs a compilation."""
CASES = [(room, case) for room in ROOMS for case in traces.cases(f"psgd_{room}")]


def recorded(factors):
    """The factors of Affine in the recorded form."""
    return {"Q": {name: [each["left"], each["right"]] for name, each in factors.items()}}


@pytest.mark.parametrize(
    ("room", "case"),
    [pytest.param(*case, marks=() if case[1] in QUICK else pytest.mark.slow) for case in CASES],
)
def test_jax_holds_the_golden_trace(room, case):
    factory = getattr(importlib.import_module(f"optbench.optimizers.{room}.jax"), ROOMS[room][0])
    trace = traces.load(f"psgd_{room}")[case]

    def factors(state):
        if room != "affine":
            return state.factors[0]
        return recorded(dict(zip(trace["leaf_order"], state.factors, strict=True)))

    groups.replay(factory, trace, factors)


@pytest.mark.parametrize(("room", "case"), CASES)
def test_torch_holds_the_golden_trace(room, case):
    kind = getattr(importlib.import_module(f"optbench.optimizers.{room}.torch"), ROOMS[room][1])

    def factors(optimizer, params):
        if room != "affine":
            return groups.first_factors(optimizer, params)
        return recorded({name: optimizer.state[p]["factors"] for name, p in params.items()})

    groups.replay_torch(kind, traces.load(f"psgd_{room}")[case], factors)
