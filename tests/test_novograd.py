"""NovoGrad against optax 0.2.8, trace by trace, and where it departs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from optbench.optimizers.novograd.jax import novograd
from optbench.optimizers.novograd.torch import Novograd
from tests import traces


def options(trace):
    given = dict(trace["hyperparameters"])
    if isinstance(given["learning_rate"], dict):
        given["learning_rate"] = lambda count: 0.1 / (1 + count)
    return given


def state_of(state):
    return state[0]._asdict()


@pytest.mark.parametrize("case", traces.thinned("novograd", ("example", "quad_f64", "default_mlp_f32")))
def test_novograd_holds_the_golden_trace_in_jax(case):
    trace = traces.load("novograd")[case]
    traces.replay_jax(trace, lambda noise: novograd(**options(trace)), state_of)


@pytest.mark.parametrize("case", traces.cases("novograd"))
def test_novograd_holds_the_golden_trace_in_torch(case):
    trace = traces.load("novograd")[case]
    given = options(trace)
    rate = given.pop("learning_rate")

    def schedule(optimizer, step):
        optimizer.param_groups[0]["lr"] = rate(step["t"] - 1) if callable(rate) else rate

    def recorded(optimizer, params):
        states = {name: optimizer.state[param] for name, param in params.items()}
        return {key: {name: state[key] for name, state in states.items()} for key in ("mu", "nu")}

    make = lambda named, noise: Novograd(named, **given)  # noqa: E731
    traces.replay_torch(trace, make, recorded, before=schedule)


def test_nan_after_an_all_zero_first_gradient_without_eps_in_torch():
    for upstream in (False, True):
        param = torch.ones(3, requires_grad=True)
        optimizer = Novograd([param], eps=0.0, upstream=upstream)
        for grad in (torch.zeros(3), torch.ones(3)):
            param.grad = grad
            optimizer.step()
        assert torch.isfinite(param).all() != upstream


def test_nan_after_an_all_zero_first_gradient_without_eps_in_jax():
    params, grads = {"w": np.ones(3, np.float32)}, {"w": np.stack([np.zeros(3), np.ones(3)])}

    def last(rule):
        body = lambda state, g: rule.update(g, state, params)[::-1]  # noqa: E731
        return jax.lax.scan(body, rule.init(params), grads)[1]["w"][-1]

    both = jax.jit(lambda: [last(novograd(0.1, eps=0.0, upstream=upstream)) for upstream in (False, True)])
    ours, original = both()
    np.testing.assert_allclose(ours, -0.1 / np.sqrt(0.75 * 3), rtol=1e-6)
    assert np.isnan(original).all()


def test_decay_takes_a_schedule_and_params_are_needed_only_for_decay_in_jax():
    params = {"w": jnp.ones(3)}
    plain, scheduled = novograd(0.1), novograd(0.1, weight_decay=lambda count: 0.5)
    plain.update(params, plain.init(params))
    got, _ = scheduled.update(params, scheduled.init(params), params)
    want, _ = optax.novograd(0.1, weight_decay=0.5).update(params, optax.novograd(0.1).init(params), params)
    np.testing.assert_allclose(got["w"], want["w"], rtol=1e-6)
    with pytest.raises(ValueError, match="weight_decay needs `params`"):
        scheduled.update(params, scheduled.init(params))


def test_a_traced_number_is_not_checked():
    jax.eval_shape(lambda b1: novograd(0.1, b1=b1).init({"w": jnp.ones(3)}), 0.9)


def test_a_wrong_number_is_named_in_a_group_too():
    with pytest.raises(ValueError, match=r"novograd: b1=1.5 is outside \[0, 1\)"):
        novograd(0.1, b1=1.5)
    with pytest.raises(ValueError, match=r"novograd: b1=1.5 is outside \[0, 1\)"):
        Novograd([{"params": [torch.zeros(1)], "b1": 1.5}])


@pytest.mark.parametrize("size", [300.0, 1e-5])
def test_a_float16_leaf_moves_as_a_float32_one(size):
    """The square of 300 is above float16's range, that of 1e-5 below it."""
    moved = []
    for dtype in ("float32", "float16"):
        param = torch.zeros(64, 64, dtype=getattr(torch, dtype), requires_grad=True)
        optimizer = Novograd([param], lr=0.1)
        params = {"w": jnp.zeros((64, 64), dtype)}
        rule = novograd(0.1)
        state = rule.init(params)
        for _ in range(3):
            param.grad = torch.full_like(param, size)
            optimizer.step()
            updates, state = rule.update({"w": jnp.full((64, 64), size, dtype)}, state, params)
            params = optax.apply_updates(params, updates)
        assert params["w"].dtype == dtype
        moved.append((param.detach().float().numpy(), np.asarray(params["w"], np.float32)))
    (wide, _), *_ = moved
    assert np.abs(wide).min() > 1e-3
    for got in (got for pair in moved for got in pair):
        np.testing.assert_allclose(got, wide, rtol=5e-3)
