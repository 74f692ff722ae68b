"""ESGD-M against the original, trace by trace, and where it departs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from optbench.optimizers.esgd import ESGD as Declared
from optbench.optimizers.esgd import is_due, mixing
from optbench.optimizers.esgd.jax import due, esgd, signs
from optbench.optimizers.esgd.torch import ESGD
from optbench.protocol import Setting
from optbench.rules.optax import KeyNoise, TableNoise
from optbench.rules.torch import SeedNoise
from tests import traces
from tests.parity import JaxObjective


def curvature(step):
    hvp = step["hvp"] or jax.tree.map(np.zeros_like, step["grads"])
    return {"Hvp": hvp, "vector": None, "update_preconditioner": np.asarray(step["should_create_graph"])}


def state_of(trace):
    """The state in the recorded form, with the cumulative products that we keep as counts."""
    given = trace["hyperparameters"]
    b1, b2 = given.get("betas", (0.9, 0.999))
    every, warmup = given.get("update_d_every", 10), given.get("d_warmup", 20)

    def form(state):
        n = int(state.count)
        return {
            "steps": n,
            "steps_since_d": next(k for k in range(1, n + 1) if is_due(n - k, every, warmup)),
            "exp_avg": state.exp_avg,
            "exp_avg_d": state.exp_avg_d,
            "exp_avg_bias_corr": b1**n,
            "exp_avg_d_bias_corr": b2 ** int(state.d_count),
            "lr_warmup_cumprod": given.get("lr_warmup", 0.99) ** n,
        }

    return form


@pytest.mark.parametrize("case", traces.thinned("esgd_m", ("quad_f64", "rosenbrock_f32", "default_mlp_f64")))
def test_esgd_holds_the_golden_trace_in_jax(case):
    trace = traces.load("esgd_m")[case]
    make = lambda noise: esgd(**trace["hyperparameters"])  # noqa: E731
    traces.replay_jax(trace, make, state_of(trace), extra=curvature, check_updates=False)


@pytest.mark.parametrize("case", traces.cases("esgd_m"))
def test_esgd_holds_the_golden_trace_in_torch(case):
    trace = traces.load("esgd_m")[case]

    def recorded(optimizer, params):
        states = {name: optimizer.state[param] for name, param in params.items()}
        arrays = {key: {n: s[key] for n, s in states.items()} for key in ("exp_avg", "exp_avg_d")}
        scalars = ("exp_avg_bias_corr", "exp_avg_d_bias_corr", "lr_warmup_cumprod")
        first = next(iter(states.values()))
        counters = {"steps": optimizer.steps, "steps_since_d": optimizer.steps_since_d}
        return {**arrays, **{key: first[key] for key in scalars}, **counters}

    def check_due(optimizer, step):
        assert optimizer.should_create_graph() == step["should_create_graph"]

    make = lambda named, noise: ESGD(named, **trace["hyperparameters"], noise=noise)  # noqa: E731
    traces.replay_torch(trace, make, recorded, feed=traces.feed_curved, before=check_due)


IGNORE_CYCLE = pytest.mark.filterwarnings("ignore:Using backward:UserWarning")


def losses(upstream, create_graph=True):
    """Ten steps on a loss that is curved in w and linear in u."""
    w, u = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = ESGD({"w": w, "u": u}.items(), lr=0.1, eps=1.0, upstream=upstream)
    for _ in range(10):
        loss = 0.5 * (w**2).sum() + u.sum()
        yield loss.item()
        optimizer.zero_grad()
        loss.backward(create_graph=create_graph)
        optimizer.step()
    assert not optimizer.state[u]["exp_avg_d"].any()


@IGNORE_CYCLE
def test_misleading_create_graph_error_on_parameters_that_enter_the_loss_linearly():
    values = list(losses(upstream=False))
    assert values[-1] < values[0]
    with pytest.raises(RuntimeError, match="parameter u has no graph"):
        list(losses(upstream=True))


def test_a_forgotten_graph_is_still_an_error():
    with pytest.raises(RuntimeError, match=r"Call loss.backward\(create_graph="):
        list(losses(upstream=False, create_graph=False))


@IGNORE_CYCLE
def test_the_products_in_torch_are_those_of_the_hessian():
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    w = torch.ones(2, requires_grad=True)
    optimizer = ESGD([("w", w)], seed=3)
    (0.5 * w @ matrix @ w).backward(create_graph=True)
    optimizer.step()
    v = torch.where(SeedNoise(3).normal("probe.w", 0, w) < 0, -1.0, 1.0)
    torch.testing.assert_close(optimizer.state[w]["exp_avg_d"], 0.001 * (matrix @ v) ** 2)


@pytest.mark.parametrize("case", traces.cases("esgd_m"))
def test_the_cadence_is_the_recorded_one(case):
    trace = traces.load("esgd_m")[case]
    given = {k: v for k, v in trace["hyperparameters"].items() if k in ("update_d_every", "d_warmup")}
    recorded = [step["should_create_graph"] for step in trace["steps"]]
    assert [bool(due(t, **given)) for t in range(len(recorded))] == recorded
    assert Declared(**given).due_hvps(len(recorded)) == sum(recorded)


def test_recorded_signs_feed_through_unchanged():
    table = {"probe.w": jnp.asarray([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])}
    like = {"w": jnp.zeros(3)}
    for step in range(2):
        np.testing.assert_array_equal(signs(TableNoise(table), step, like)["w"], table["probe.w"][step])
    drawn = np.asarray(signs(KeyNoise.seeded(0), 3, {"w": jnp.zeros(1000)})["w"])
    assert set(drawn.tolist()) == {-1.0, 1.0}
    assert abs(drawn.mean()) < 0.2


SCALE = jnp.asarray([1.0, 4.0, 9.0])
QUADRATIC = JaxObjective(lambda params: 0.5 * (SCALE * params["w"] ** 2).sum() + params["u"].sum())
"""Curved in w, linear in u."""


def test_the_rule_takes_products_on_the_declared_cadence():
    declared = Declared(learning_rate=0.1, d_warmup=4, update_d_every=3, eps=1.0)
    rule = declared.jax(Setting(lambda t: 1.0, KeyNoise.seeded(0), 30))
    params = {"w": jnp.ones(3), "u": jnp.ones(2)}

    def body(carry, t):
        step = rule.step(*carry, QUADRATIC, t)
        return (step.params, step.state), (step.loss, step.counts.hvps)

    (_, state), (losses, hvps) = jax.lax.scan(body, (params, rule.init(params)), jnp.arange(30))
    assert int(hvps.sum()) == declared.due_hvps(30) == int(state.d_count)
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(state.exp_avg_d["u"], 0)


def test_a_step_without_a_product_pays_for_none_in_lanes():
    rule = Declared().jax(Setting(lambda t: 1.0, KeyNoise.seeded(0), 30))
    params = {"w": jnp.ones((2, 3)), "u": jnp.ones((2, 2))}
    lanes = jax.vmap(lambda p, s, t: rule.step(p, s, QUADRATIC, t)[:2], in_axes=(0, 0, None))
    program = jax.make_jaxpr(lanes)(params, jax.vmap(rule.init)(params), 3)
    assert [equation.primitive.name for equation in program.eqns].count("cond") == 1


def test_v_is_the_older_name_of_nu():
    betas = (0.9, 0.999)
    assert mixing(betas, 0.3, None) == mixing(betas, None, 0.3) == (0.9, 0.999, 0.3)
    assert mixing(betas, None, None).nu == 0.9
    assert ESGD([torch.zeros(1)], v=0.3).defaults["nu"] == 0.3


@IGNORE_CYCLE
def test_gradients_unscaled_before_a_product_are_refused_with_a_sentence():
    w = torch.ones(3, requires_grad=True)
    optimizer, scaler = ESGD([w]), torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((w**4).sum()).backward(create_graph=True)
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"Leave out scaler.unscale_\(optimizer\)"):
        scaler.step(optimizer)
    assert torch.equal(w, torch.ones(3))


def test_a_state_in_the_originals_form_is_loaded():
    """The original keeps its counters beside the groups; ours are in each group."""
    optimizer = ESGD([torch.zeros(2)])
    state = optimizer.state_dict()
    (group,) = state["param_groups"]
    for name in ESGD.counters:
        del group[name]
    cadence = {"update_d_every": 7, "d_warmup": 3, "steps": 40, "steps_since_d": 2}
    optimizer.load_state_dict({**state, "global_state": cadence})
    assert optimizer.state_dict()["global_state"] == cadence
    assert {name: optimizer.param_groups[0][name] for name in cadence} == cadence
    assert not optimizer.should_create_graph()
