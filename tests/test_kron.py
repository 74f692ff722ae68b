"""PSGD Kron in JAX against psgd-jax 0.2.9, trace by trace."""

import json

import numpy as np
import pytest

from optbench.optimizers.kron.jax import kron, precond_update_prob_schedule
from tests import traces


def options(trace):
    """The recorded hyperparameters as arguments."""
    given = dict(trace["hyperparameters"])
    if isinstance(given.get("learning_rate"), dict):
        given["learning_rate"] = lambda count: 0.1 / (1 + count)
    probability = given.get("preconditioner_update_probability")
    if isinstance(probability, dict):
        given["preconditioner_update_probability"] = precond_update_prob_schedule(
            **probability["precond_update_prob_schedule"]
        )
    return given


def state_of(state):
    """Kron's state in the recorded form."""
    inner = state[0]
    return {
        "count": inner["count"],
        "update_counter": inner["update_counter"],
        "mu": inner["mu"],
        "Q": inner["Qs_preconditioners"],
    }


@pytest.mark.parametrize("case", traces.cases("psgd_kron", "kron_"))
def test_kron_holds_the_golden_trace(case):
    trace = traces.load("psgd_kron")[case]
    tolerance = 2e-2 if "bf16" in case else None
    traces.replay_jax(trace, lambda noise: kron(**options(trace), noise=noise), state_of, tolerance)


def test_the_default_schedule_is_the_recorded_one():
    recorded = json.loads((traces.FOLDER / "kron_schedule.json").read_text())
    schedule = precond_update_prob_schedule(**recorded["defaults"])
    for n, value in recorded["default_values"]:
        np.testing.assert_allclose(schedule(n), value, rtol=2e-6)
