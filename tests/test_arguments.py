"""What is used alone takes its arguments from the fields of a dataclass: names, order, defaults, docs and ranges."""

import inspect

import jax.numpy as jnp
import pytest
import torch

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


def test_a_subclass_may_have_a_constructor_of_its_own():
    class Mine(Kron):
        """Kron with my learning rate."""

        def __init__(self, params):
            super().__init__(params, lr=0.5)

    assert Mine([torch.zeros(2)]).defaults["lr"] == 0.5
    assert str(inspect.signature(Mine)) == "(params)"
    assert Mine.__doc__ == "Kron with my learning rate."
