"""What measures claims: the cheap measurements, run as they are, and small versions of the dear ones."""

import jax
import numpy as np
import pytest

from optbench import optimizers
from optbench.claim import Verdict, documents, every
from optbench.claims import programs, psgd_variants
from optbench.claims.esgd_m import EXPONENTS
from optbench.claims.programs import expectigrad, psgd_schedule, psgd_traces, scaling, training

CHEAP = (
    "psgd-kron.factor-shapes",
    "psgd-kron.contracting-axis",
    "psgd-variants.hessian-trace",
    "psgd-variants.lra-memory",
    "novograd.docstring-trace",
    "novograd.half-the-memory",
    "expectigrad.pseudocode",
    "expectigrad.outer-momentum",
    "esgd-m.product-every-ten",
    "esgd-m.nesterov",
    "esgd-m.weight-decay",
    "esgd-m.warmup",
    "esgd-m.create-graph",
    "ngc-learn.adam-equations",
    "ngc-learn.nag-step-size",
)


@pytest.mark.parametrize("name", CHEAP)
def test_a_cheap_measurement_gives_every_claim_on_it_a_verdict(name):
    [asked] = [asked for asked in every() if asked.name == name]
    measurement = asked.measurement
    numbers = measurement.function()(**measurement.inputs)
    wrong = {"lra-memory", "nag-step-size", "affine-memory"}
    for other in every():
        if other.measurement.id == measurement.id:
            holds = other.ruling(numbers).verdict == Verdict.HOLDS
            assert holds != (other.short in wrong), other.name


@pytest.mark.parametrize("layout", ["old", "new"])
def test_the_released_whitening_trace_is_reproduced_digit_for_digit(layout):
    with jax.threefry_partitionable(psgd_traces.LAYOUTS[layout]):
        table = psgd_traces.drawn(jax.random.PRNGKey(psgd_traces.PACKAGE_SEED), 12)
    printed = tuple(str(loss) for loss in psgd_traces.printed(table))
    assert printed == psgd_variants.RELEASED[layout]
    compiled = np.asarray(jax.jit(psgd_traces.path)(table))
    np.testing.assert_allclose(compiled[: len(printed)], np.array(printed, float), rtol=1e-5)


def test_a_trace_is_placed_among_those_of_other_seeds():
    rng = np.random.default_rng(0)
    losses = np.exp(-np.cumsum(np.abs(rng.standard_normal((50, 6))), axis=1))
    found = psgd_traces.band(losses, losses[7])
    assert found["nearest"] == 0
    assert found["neighbours"] > 0
    assert found["monotone"] == 1
    assert found["ranks"][3] == np.mean(losses[:, 3] < losses[7, 3])
    assert found["quantiles"]["0.5"][2] == np.median(losses[:, 2])
    assert psgd_traces.lengths(np.array([[1, 1e-5, 1e-6], [1, 1, 1], [1, 1, 1e-9]])) == {
        "0": 1,
        "2": 1,
        "3": 1,
    }


def test_kron_fits_on_the_steps_that_its_counter_says():
    """The counter of psgd-jax 0.2.9: a probability of 0.4 fits at every third step, the first at the third."""
    assert np.flatnonzero(psgd_schedule.fits(12, 0.4)).tolist() == [2, 5, 8, 11]
    assert psgd_schedule.fits(6, 1.0).all()
    assert not psgd_schedule.fits(20, psgd_schedule.NEVER).any()


def test_the_laws_of_scaling_are_measured_and_not_presumed():
    methods = {"sgd": [-1, 2, None], "adam": [0, 1, ["eps", 0.0]]}
    rows = scaling.laws(methods, factors=[100.0], steps=8, rate=0.01, seed=0)
    assert [(row["method"], row["what"]) for row in rows][:2] == [("sgd", "loss"), ("sgd", "parameters")]
    for row in rows:
        np.testing.assert_allclose(row["exponents"], row["documented"], atol=1e-9)
        assert row["off_exact"] < 1e-12
    assert 1e-9 < rows[3]["off"] < 1e-2, "eps breaks Adam's law a little"
    # A law that is wrong is seen to be wrong: the exponent stays what it is, the path is off.
    [wrong] = [r for r in scaling.laws({"sgd": [0, 2, None]}, [100.0], 8, 0.01, 0) if r["what"] == "loss"]
    np.testing.assert_allclose(wrong["exponents"], -1, atol=1e-9)
    assert wrong["off"] > 0.1
    assert EXPONENTS["SGD class"] == (-1, 2)


def test_adam_goes_to_the_wrong_end_and_expectigrad_does_not():
    methods = {
        "ours": "expectigrad[learning_rate=0.01]",
        "adam": f"adam[learning_rate=0.01,b1=0.0,b2={1 / 17}]",
    }
    found = expectigrad.periodic(methods, period=3, spike=4.0, rest=-1.0, steps=2000, points=10)
    assert found["mean"] == pytest.approx(2 / 3)
    assert found["methods"]["ours"]["end"] < -0.9
    assert found["methods"]["adam"]["end"] > 0.9


def test_a_training_with_other_numbers_is_another_lane():
    run = training.Training("mlp", steps=3, seeds=2)
    numbers = {"learning_rate": np.array([0.01, 0.01, 0.0])}
    found = run.run(optimizers.parse("sgd"), numbers, np.array([1.0, 3.0, 1.0]), "train_loss")
    assert found.shape == (3, 2)
    assert np.isfinite(found).all()
    assert (found[0] < found[2]).all()
    assert (found[1] > found[0]).all()


def test_the_clock_runs_all_cases_in_turn():
    order = []
    cases = {name: lambda steps, name=name: order.append((name, steps)) for name in ("a", "b")}
    assert set(programs.interleaved(cases, steps=5, rounds=3)) == {"a", "b"}
    assert order == [("a", 5), ("b", 5)] * 4


def test_figures_leave_out_what_is_not_measured():
    assert not any(document.shown({}) for document in documents().values())
