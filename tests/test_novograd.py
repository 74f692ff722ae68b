"""NovoGrad against optax 0.2.8, trace by trace, and where it departs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optbench.optimizers.novograd.jax import novograd
from tests import traces


def options(trace):
    """The recorded hyperparameters as arguments."""
    given = dict(trace["hyperparameters"])
    if isinstance(given["learning_rate"], dict):
        given["learning_rate"] = lambda count: 0.1 / (1 + count)
    return given


def state_of(state):
    """The state in the recorded form."""
    return state[0]._asdict()


@pytest.mark.parametrize("case", traces.cases("novograd"))
def test_novograd_holds_the_golden_trace_in_jax(case):
    trace = traces.load("novograd")[case]
    traces.replay_jax(trace, lambda noise: novograd(**options(trace)), state_of)


def test_nan_after_an_all_zero_first_gradient_without_eps_in_jax():
    params, zero = {"w": jnp.ones(3)}, {"w": jnp.zeros(3)}
    for upstream in (False, True):
        rule = novograd(0.1, eps=0.0, upstream=upstream)
        state = rule.init(params)
        for grads in (zero, params):
            updates, state = rule.update(grads, state, params)
        assert np.isfinite(updates["w"]).all() != upstream


def test_decay_takes_a_schedule_and_params_are_needed_only_for_decay_in_jax():
    params = {"w": jnp.ones(3)}
    plain, scheduled = novograd(0.1), novograd(0.1, weight_decay=lambda count: 0.5)
    plain.update(params, plain.init(params))
    got, _ = scheduled.update(params, scheduled.init(params), params)
    want, _ = optax.novograd(0.1, weight_decay=0.5).update(params, optax.novograd(0.1).init(params), params)
    np.testing.assert_allclose(got["w"], want["w"], rtol=1e-6)
    with pytest.raises(ValueError, match="weight_decay needs `params`"):
        scheduled.update(params, scheduled.init(params))


def test_wrong_hyperparameters_are_named():
    with pytest.raises(ValueError, match=r"novograd: b1=1.5 is outside \[0, 1\)"):
        novograd(0.1, b1=1.5)
    jax.eval_shape(lambda b1: novograd(0.1, b1=b1).init({"w": jnp.ones(3)}), 0.9)
