"""What is used alone takes its arguments from the fields of a dataclass: names, order, defaults, docs and ranges."""

import importlib
import inspect

import jax.numpy as jnp
import pytest
import torch

from optbench import optimizers
from optbench.fields import hyper
from optbench.optimizers.kron import Kron as Declared
from optbench.optimizers.kron.jax import kron, scale_by_kron
from optbench.optimizers.kron.torch import Kron
from optbench.rules.arguments import field, takes


@takes(
    Declared,
    "rate b1 * max_size_triangular seed",
    rate=field(Declared, "learning_rate"),
    seed=hyper(3, "a seed"),
)
def made(rate, **rest):
    """What it is given.

    Raises:
        ValueError: a number is out of its range.
    """
    return rate, rest


def test_a_signature_is_made_of_fields_and_others():
    assert str(inspect.signature(made)) == (
        "(rate=0.001, b1: 'float' = 0.9, *, max_size_triangular: 'int' = 8192, seed=3)"
    )
    assert made() == (0.001, {"b1": 0.9, "max_size_triangular": 8192, "seed": 3})
    assert made(1.0, 0.5, seed=4) == (1.0, {"b1": 0.5, "max_size_triangular": 8192, "seed": 4})
    with pytest.raises(TypeError, match="too many positional arguments"):
        made(1.0, 0.5, 4)
    with pytest.raises(TypeError, match="unexpected keyword argument 'b2'"):
        made(b2=0.9)


def test_the_docstring_lists_the_arguments_before_what_is_raised():
    assert inspect.getdoc(made) == (
        "What it is given.\n\n"
        "Args:\n"
        "    rate: step size; in (0, inf).\n"
        "    b1: decay of the momentum; 0 keeps none; in [0, 1).\n"
        "    max_size_triangular: a larger dimension is diagonal; in [0, inf).\n"
        "    seed: a seed.\n\n"
        "Raises:\n"
        "    ValueError: a number is out of its range."
    )
    assert "    params: parameters" in inspect.getdoc(Kron)


def test_numbers_are_checked_by_the_fields():
    for wrong, said in (
        ({"b1": 1.0}, r"kron: b1=1\.0 is outside \[0, 1\)"),
        ({"b1": None}, "kron: b1=None is not a number"),
        ({"max_size_triangular": 2.5}, r"max_size_triangular=2\.5 is not an integer in \[0, inf\)"),
    ):
        for make in (made, kron, lambda **given: Kron([torch.zeros(2)], **given)):
            with pytest.raises(ValueError, match=said):
                make(**wrong)
    assert made(b1=jnp.asarray(2.0))[1]["b1"] == 2, "an array may be traced"
    scale_by_kron(preconditioner_update_probability=None)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("affine", {"max_skew_triangular": 0.0}, r"max_skew_triangular=0.0 is outside \(0, inf\)"),
        ("affine", {"update_global_norm_clip": 0.0}, r"update_global_norm_clip=0.0 is outside \(0, inf\)"),
        ("esgd", {"betas": (0.9, 1.0)}, r"betas\[1\]=1.0 is outside \[0, 1\)"),
        ("esgd", {"d_warmup": 0}, r"d_warmup=0 is outside \[1, inf\)"),
        ("esgd", {"lr_warmup": 1.0}, r"lr_warmup=1.0 is outside \[0, 1\)"),
        ("esgd", {"nu": 0.5, "v": 0.5}, "two names of one number"),
        ("esgd", {"weight_decay": -1.0}, r"weight_decay=-1.0 is outside \[0, inf\)"),
        ("expectigrad", {"beta": 1.0}, r"expectigrad: beta=1.0 is outside \[0, 1\)"),
        ("expectigrad", {"eps": 0.0}, r"expectigrad: eps=0.0 is outside \(0, inf\)"),
        ("expectigrad", {"lr": 0.0}, r"expectigrad: lr=0.0 is outside \(0, inf\)"),
        ("kron", {"preconditioner_lr": 0.0}, r"preconditioner_lr=0.0 is outside \(0, inf\)"),
        (
            "kron",
            {"preconditioner_update_probability": 1.5},
            "preconditioner_update_probability=1.5 is outside",
        ),
        ("lra", {"update_global_norm_clip": 0.0}, r"update_global_norm_clip=0.0 is outside \(0, inf\)"),
        ("lra", {"uvd_rank_of_approximation": 0}, r"uvd_rank_of_approximation=0 is outside \[1, inf\)"),
        ("ngc_adam", {"beta2": 1.0}, r"ngc_adam: beta2=1.0 is outside \[0, 1\)"),
        ("ngc_adam", {"eps": -1.0}, r"ngc_adam: eps=-1.0 is outside \[0, inf\)"),
        ("ngc_nag", {"mu": "a"}, r"ngc_nag: mu='a' is not a number; it must lie in \[0, 1\)"),
        ("xmat", {"update_global_norm_clip": 0.0}, r"update_global_norm_clip=0.0 is outside \(0, inf\)"),
        ("xmat", {"weight_decay": -0.1}, r"weight_decay=-0.1 is outside \[0, inf\)"),
    ],
)
def test_both_frameworks_name_a_wrong_number_and_its_range(name, given, message):
    package = f"optbench.optimizers.{name.partition('_')[0]}"
    factory = getattr(importlib.import_module(f"{package}.jax"), name)
    optimizer = getattr(importlib.import_module(f"{package}.torch"), type(optimizers.find(name)).__name__)
    with pytest.raises(ValueError, match=message):
        factory(**given)
    with pytest.raises(ValueError, match=message):
        optimizer([torch.zeros(1)], **given)


def test_a_subclass_may_have_a_constructor_of_its_own():
    class Mine(Kron):
        """Kron with my learning rate."""

        def __init__(self, params):
            super().__init__(params, lr=0.5)

    assert Mine([torch.zeros(2)]).defaults["lr"] == 0.5
    assert str(inspect.signature(Mine)) == "(params)"
    assert Mine.__doc__ == "Kron with my learning rate."
