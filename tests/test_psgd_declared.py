"""The dataclasses of Kron, XMat, LRA, Affine and those of psgd_torch: what they declare is what their rules keep."""

import jax
import numpy as np
import pytest

from optbench.fields import UserError
from optbench.optimizers import parse
from optbench.optimizers.affine import Affine, matricized
from optbench.optimizers.kron import Kron
from optbench.optimizers.lra import LRA
from optbench.optimizers.psgd_dq import DenseNewton, KronDQ, LraDQ
from optbench.optimizers.xmat import XMat
from optbench.protocol import Setting
from optbench.rules.optax import KeyNoise

SHAPES = {"W": (6, 3), "T": (2, 3, 4), "b": (5,), "s": ()}
DECLARED = [
    Kron(),
    Kron(b1=0.0, memory_save_mode="one_diag"),
    Kron(upstream="0.2.7"),
    XMat(),
    XMat(b1=0.0, mode="hessian"),
    LRA(uvd_rank_of_approximation=3),
    Affine(),
    Affine(max_size_triangular=4, mode="hessian"),
    KronDQ(),
    KronDQ(momentum=0.9, preconditioner_max_skew=2.0, mode="hessian"),
    KronDQ(preconditioner_max_size=3),
    LraDQ(rank_of_approximation=3),
    LraDQ(rank_of_approximation=0, momentum=0.5),
    DenseNewton(momentum=0.9),
]


@pytest.mark.parametrize("declared", DECLARED, ids=lambda declared: declared.label())
def test_the_state_has_the_declared_size(declared):
    params = {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in SHAPES.items()}
    rule = declared.jax(Setting(lambda t: 1.0, KeyNoise.seeded(0), 10))
    state = jax.eval_shape(rule.init, params)
    kept = sum(x.size for x in jax.tree.leaves(state) if x.dtype == np.float32)
    assert kept == declared.state_floats(SHAPES)


def test_momentum_is_whitened_only_where_it_is_kept():
    with pytest.raises(UserError, match="kron_dq: whiten_grad=False needs momentum above 0"):
        KronDQ(whiten_grad=False)
    KronDQ(whiten_grad=False, momentum=0.5)


def test_the_option_dq_means_psgd_of_psgd_torch():
    assert parse("kron[dQ=QUAD,mode=hessian]") == KronDQ(dQ="QUAD", mode="hessian")
    assert parse("lra[dQ=EQ,rank_of_approximation=0]") == LraDQ(rank_of_approximation=0)
    assert parse("kron[b1=0.5]") == Kron(b1=0.5)
    with pytest.raises(UserError, match="kron_dq has no field 'b1'"):
        parse("kron[dQ=QUAD,b1=0.5]")


def test_products_are_declared_in_hessian_mode_only():
    assert [XMat().due_hvps(7), XMat(mode="hessian").due_hvps(7)] == [0, 7]


def test_wrong_fields_name_value_and_range():
    with pytest.raises(UserError, match=r"precond_lr=0\.0 is outside \(0, inf\)"):
        LRA(precond_lr=0)
    with pytest.raises(UserError, match="mode='newton' is not one of 'whitening', 'hessian'"):
        Affine(mode="newton")


def test_a_tensor_becomes_its_squarest_matrix():
    assert matricized((3, 2, 2, 3)) == ((0, 1, 2, 3), 6, 6)
    assert matricized((4, 2, 3)) == ((0, 1, 2), 4, 6)
    assert matricized((2, 3, 4)) == ((0, 1, 2), 6, 4)
    assert matricized((5,)) == ((0,), 1, 5)
    assert matricized(()) == ((), 1, 1)
