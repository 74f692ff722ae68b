"""The rules of ngc-learn against the original in all three forms, trace by trace."""

import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from optbench.optimizers.ngc import functional, torch_functional
from optbench.optimizers.ngc import jax as ours
from optbench.optimizers.ngc import torch as classes
from optbench.optimizers.ngc.functional import get_opt_init_fn, get_opt_step_fn
from tests import traces

NAMES = ("ngc_adam", "ngc_nag", "ngc_sgd")
CASES = [(name, case) for name in NAMES for case in traces.cases(name)]
QUICK = ("stream_f64", "default_mlp_f32")
THINNED = [
    pytest.param(name, *case.values, marks=case.marks)
    for name in NAMES
    for case in traces.thinned(name, QUICK)
]
CLASSES = {"ngc_adam": classes.NgcAdam, "ngc_nag": classes.NgcNag, "ngc_sgd": classes.NgcSgd}


@pytest.mark.parametrize(("name", "case"), THINNED)
def test_ngc_holds_the_golden_trace_in_jax(name, case):
    trace = traces.load(name)[case]
    make = lambda noise: getattr(ours, name)(**trace["hyperparameters"])  # noqa: E731
    traces.replay_jax(trace, make, lambda state: state._asdict(), check_updates=False)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_ngc_holds_the_golden_trace_in_torch(name, case):
    trace = traces.load(name)[case]
    given = dict(trace["hyperparameters"])
    if "eta" in given:
        given["lr"] = given.pop("eta")

    def recorded(optimizer, params):
        states = {leaf: optimizer.state.get(param, {}) for leaf, param in params.items()}
        keys = {"ngc_adam": ("g1", "g2"), "ngc_nag": ("phi",), "ngc_sgd": ()}[name]
        return {key: {leaf: state[key] for leaf, state in states.items()} for key in keys}

    traces.replay_torch(trace, lambda named, noise: CLASSES[name](named, **given), recorded)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("form", "array"), [(functional, jnp.asarray), (torch_functional, torch.tensor)], ids=["jax", "torch"]
)
def test_the_functional_form_holds_a_golden_trace(name, form, array):
    trace = traces.load(name)[f"{name}_stream_f32"]
    order = trace["leaf_order"]
    first = traces.arrays(trace["init_params"])
    theta = [array(first[leaf]) for leaf in order]
    opt = name.removeprefix("ngc_")
    state = form.get_opt_init_fn(opt)(theta)
    step = form.get_opt_step_fn(opt, **trace["hyperparameters"])
    for recorded in trace["steps"]:
        want = traces.arrays(recorded)
        state, theta = step(state, theta, [array(want["grads"][leaf]) for leaf in order])
        assert isinstance(theta, list)
        traces.close_trees(theta, [want["params"][leaf] for leaf in order], "float32", f"{name} {want['t']}")
    parts = [want["state"][key] for key in ("g1", "g2", "phi") if key in want["state"]]
    kept = [[part[leaf] for leaf in order] for part in parts]
    count = want["state"]["time_step"]
    traces.close_trees(list(state) if kept else state, [*kept, count] if kept else count, "float32", name)


def test_an_unknown_rule_is_a_key_error_with_its_neighbours():
    with pytest.raises(KeyError, match="Did you mean adam"):
        get_opt_init_fn("adan")
    with pytest.raises(KeyError, match="'rmsprop' is not known"):
        get_opt_step_fn("rmsprop")


def test_nag_needs_params():
    rule = ours.ngc_nag()
    with pytest.raises(ValueError, match="pass `params`"):
        rule.update({"w": jnp.ones(2)}, rule.init({"w": jnp.ones(2)}))


def test_averages_of_bfloat16_parameters_are_kept_in_float32():
    state = jax.eval_shape(ours.ngc_adam().init, {"w": jnp.ones(2, jnp.bfloat16)})
    assert state.g2["w"].dtype == jnp.float32
    param = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    param.grad = torch.ones_like(param)
    optimizer = classes.NgcAdam([param])
    optimizer.step()
    assert optimizer.state[param]["g2"].dtype == torch.float32
    np.testing.assert_allclose(param.detach().float(), 1, atol=0.01)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("adam", "param update g1 g2 eta beta1 beta2 time_step eps"),
        ("nag", "param update phi_old eta mu time_step"),
        ("sgd", "param update eta"),
    ],
)
def test_the_step_of_one_array_takes_the_originals_names(name, arguments):
    module = importlib.import_module(f"optbench.optimizers.ngc.functional.{name}")
    for one in (module.step_update, getattr(torch_functional, name).step_update):
        assert list(inspect.signature(one).parameters) == arguments.split()


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        # What ngc-learn's jitted step gives: a default is a Python float there, a given number a float32.
        ({}, (np.float32(0.1), np.float32(0.001))),
        ({"beta1": 0.8, "beta2": 0.99}, (1 - np.float32(0.8), 1 - np.float32(0.99))),
    ],
    ids=["defaults", "given"],
)
def test_a_default_decay_is_not_rounded_before_it_is_taken_from_one(given, weights):
    one = {"w": jnp.ones(1)}
    rule = ours.ngc_adam(**given)
    _, state = rule.update(one, rule.init(one), one)
    assert (state.g1["w"][0], state.g2["w"][0]) == weights
    param = torch.ones(1, requires_grad=True)
    param.grad = torch.ones(1)
    optimizer = classes.NgcAdam([param], **given)
    optimizer.step()
    assert tuple(optimizer.state[param][name].numpy()[0] for name in ("g1", "g2")) == weights
    functional, _ = get_opt_step_fn("adam", **given)(
        get_opt_init_fn("adam")([one["w"]]), [one["w"]], [one["w"]]
    )
    assert (functional[0][0][0], functional[1][0][0]) == weights
