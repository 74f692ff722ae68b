"""The recorded originals: every file is whole, and optimizers known to be the same method reproduce their traces."""

import numpy as np
import pytest

from tests.originals import FOLDER, cases, load, replay_jax, replay_torch

FILES = sorted(path.stem for path in (FOLDER / "originals").glob("*.xz") if path.stem != "stream")


@pytest.mark.parametrize("optimizer", FILES)
def test_traces_are_finite_and_every_leaf_that_has_gradients_moves(optimizer):
    for case in cases(optimizer):
        trace = load(optimizer, case)
        assert len(trace.steps) >= 30
        for leaf, start in trace.init.items():
            path = np.stack([step["params"][leaf] for step in trace.steps])
            assert np.isfinite(path).all()
            assert (path[-1] != start).any(), f"{optimizer} {case}: {leaf} never moved"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", ["default", "decay"])
def test_lion_of_optax_is_the_original(case, dtype):
    import optax

    trace = load("lion", f"{case}_{dtype}")
    options = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.0} | trace.hyperparameters
    b1, b2 = options["betas"]
    replay_jax(trace, optax.lion(options["lr"], b1=b1, b2=b2, weight_decay=options["weight_decay"]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_lars_without_decay_is_sgd(dtype):
    """Its trust ratio is for leaves with weight decay, which its defaults do not have."""
    import torch

    trace = load("lars", f"default_{dtype}")
    replay_torch(trace, lambda named: torch.optim.SGD([param for _, param in named], lr=1.0))


def test_a_replay_fails_where_one_constant_differs():
    import optax

    with pytest.raises(AssertionError, match="step 3 params"):
        replay_jax(load("lion", "default_float64"), optax.lion(1e-4, b1=0.9, b2=0.98, weight_decay=0.0))
