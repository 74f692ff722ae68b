"""JAX against torch, step by step and left alone, for every optimizer that offers both.

Standard methods are found in the catalogue. Another optimizer is added with one line in DECLARED, and, if its
state should be the same at each step too, with one in `parity.BRIDGES`.
"""

import numpy as np
import pytest

from optbench import optimizers
from optbench.optimizers.adapter import Standard
from optbench.optimizers.affine import Affine
from optbench.optimizers.esgd import ESGD
from optbench.optimizers.expectigrad import Expectigrad
from optbench.optimizers.kron import Kron
from optbench.optimizers.leafwise import Leafwise
from optbench.optimizers.lra import LRA
from optbench.optimizers.ngc import NgcAdam, NgcNag, NgcSgd
from optbench.optimizers.novograd import Novograd
from optbench.optimizers.psgd_dq import DenseNewton, KronDQ, LraDQ
from optbench.optimizers.xmat import XMat
from tests import parity

# Each at the middle of its sweep; the cadence of ESGD is short so that steps of both kinds are seen.
DECLARED = [
    declared.trials(1)[0]
    for declared in (
        ESGD(d_warmup=4, update_d_every=3, weight_decay=0.01),
        Expectigrad(),
        NgcAdam(),
        NgcNag(),
        NgcSgd(),
        Novograd(weight_decay=0.01),
        Kron(preconditioner_update_probability=0.4, weight_decay=0.01),
        XMat(mode="hessian", preconditioner_update_probability=0.5),
        LRA(uvd_rank_of_approximation=2, nesterov=True),
        Affine(update_global_norm_clip=1.0),
        KronDQ(momentum=0.9, whiten_grad=False, preconditioner_max_skew=4.0),
        LraDQ(rank_of_approximation=2, preconditioner_update_probability=0.5),
        DenseNewton(dQ="QUAD", grad_clip_max_norm=1.0),
    )
]
NAMES = [declared.name for declared in DECLARED]
MOST = [
    pytest.param(each, marks=[pytest.mark.slow] * (each.name in ("affine", "kron_dq", "lra_dq")))
    for each in DECLARED
]
"""Without what takes long to compile, and is like another."""

STANDARD = [
    # In the middle of its range LARS saturates the tanh of the mlp, whose derivative is then rounding alone.
    each if each.name == "lars" else each.trials(1)[0]
    for each in optimizers.names().values()
    if isinstance(each, Standard) and each.parity and each.frameworks() == ("jax", "torch")
]
VARIANTS = [
    optimizers.parse(text).trials(1)[0]
    for text in ("rmsprop[momentum=0.9]", "rmsprop[centered=True]", "nadam[weight_decay=0.01]")
]


@pytest.mark.parametrize(
    "declared",
    # Those that are written once are held to a trace in both.
    [
        pytest.param(each, marks=[pytest.mark.slow] * isinstance(each, Leafwise))
        for each in [*STANDARD, *VARIANTS]
    ],
    ids=lambda declared: declared.label(),
)
def test_each_step_of_a_standard_method_is_the_same_in_both_frameworks(declared):
    parity.step_by_step(declared, "mlp", "float64", 30)


@pytest.mark.parametrize("problem", ["mlp", pytest.param("scalar+vector", marks=pytest.mark.slow)])
@pytest.mark.parametrize("declared", MOST, ids=NAMES)
def test_each_step_is_the_same_in_both_frameworks(declared, problem):
    parity.step_by_step(declared, problem, "float64", 30)


def test_a_difference_in_the_seventh_digit_is_seen():
    class Off(NgcSgd):
        def torch(self, setting):
            return self.replace(learning_rate=self.learning_rate * (1 + 1e-6)).torch_as_declared(setting)

        torch_as_declared = NgcSgd.torch

    with pytest.raises(AssertionError, match="apart"):
        parity.step_by_step(Off(learning_rate=0.1), "scalar+vector", "float64", 3)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("problem", parity.PROBLEMS)
@pytest.mark.parametrize("declared", [*DECLARED, *STANDARD], ids=lambda declared: declared.name)
def test_each_of_a_thousand_steps_is_the_same_in_both_frameworks(declared, problem, dtype):
    parity.step_by_step(declared, problem, dtype, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("problem", parity.PROBLEMS)
@pytest.mark.parametrize("declared", [*DECLARED, *STANDARD], ids=lambda declared: declared.name)
def test_left_alone_the_two_paths_part_no_faster_than_rounding(declared, problem):
    apart, growth = parity.free_running(declared, problem, 1000)
    worst = int(np.argmax(apart - 10 * growth))
    assert (apart <= 10 * growth).all(), f"step {worst}: {apart[worst]:.1e} apart, growth {growth[worst]:.1e}"


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["mlp", "tensor"])
@pytest.mark.parametrize("declared", STANDARD, ids=lambda declared: declared.label())
def test_a_thousand_steps_part_no_further_than_roundings_do(declared, problem):
    """1e-9 of the largest parameter, or ten times what a rounding at each step grows to."""
    gaps, growth = parity.free_running(declared, problem, 1000)
    allowed = np.maximum(1e-9, 10 * growth)
    worst = int(np.argmax(gaps / allowed))
    assert gaps[worst] <= allowed[worst], (
        f"step {worst + 1}: {gaps[worst]:.1e} apart, growth {growth[worst]:.1e}"
    )
