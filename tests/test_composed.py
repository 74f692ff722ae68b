"""Wrappers around methods: the originals' traces, both frameworks alike, and what does not fit together."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from optbench import optimizers, origin
from optbench.fields import UserError, hyper
from optbench.optimizers.composed import Composed
from optbench.optimizers.wrappers import WRAPPERS, Wrapper
from optbench.protocol import Setting
from tests import originals, parity
from tests.contract import TINY_MLP, TINY_QUADRATIC, cells_of, check, run
from tests.traces import close_trees

SETTING = Setting(lambda t: 1.0, parity.JaxNoise(1), 1)


class Fed:
    """An objective whose gradient is the recorded one."""

    def __init__(self, grads):
        self.grads = grads

    def value_and_grad(self, params):
        return 0.0, self.grads


def cautious(trace):
    """adamw (eps after the bias correction, as the original's default) or lion, with the original's options."""
    given = dict(trace.hyperparameters)
    lion = trace.case.startswith("lion")
    b1, b2 = given.get("betas", (0.95, 0.98) if lion else (0.9, 0.999))
    eps = {} if lion else {"eps": given.get("eps", 1e-6)}
    rate = given.get("lr", 1e-4 if lion else 1e-3)
    text = "lion+cautious[scale=count]" if lion else "adamw+cautious"
    decay = given.get("weight_decay", 0.0)
    return optimizers.parse(text).replace(learning_rate=rate, b1=b1, b2=b2, weight_decay=decay, **eps)


CASES = [
    case
    for case in originals.cases("cautious")
    if "no_bias" not in case and ("foreach" in case or "adamw_decay" not in case)
]
"""Without the rows whose AdamW is another than torch's: eps before the bias correction, and none."""


@pytest.mark.parametrize("case", CASES)
def test_cautious_holds_the_trace_in_jax(case):
    trace = originals.load("cautious", case)
    with jax.enable_x64(trace.dtype == "float64"):
        rule = cautious(trace).jax(SETTING)
        params = {name: jnp.asarray(value) for name, value in trace.init.items()}
        state = rule.init(params)
        advance = jax.jit(lambda params, state, grads, t: rule.step(params, state, Fed(grads), t)[:2])
        for t, step in enumerate(trace.steps):
            params, state = advance(params, state, step["grads"], t)
            close_trees(params, step["params"], trace.dtype, f"{case} step {t + 1}")


@pytest.mark.parametrize("case", CASES)
def test_cautious_holds_the_trace_in_torch(case):
    torch.set_num_threads(1)
    trace = originals.load("cautious", case)
    rule = cautious(trace).torch(SETTING)
    params = {name: torch.tensor(value, requires_grad=True) for name, value in trace.init.items()}
    state = rule.init(params)
    for t, step in enumerate(trace.steps):
        grads = {name: torch.tensor(value) for name, value in step["grads"].items()}
        params, state = rule.step(params, state, Fed(grads), t)[:2]
        values = {name: param.detach().numpy() for name, param in params.items()}
        close_trees(values, step["params"], trace.dtype, f"{case} step {t + 1}")


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_both_frameworks_go_the_same_way(wrapper):
    declared = optimizers.parse(f"adamw+{wrapper}").trials(1)[0]
    apart, grown = parity.free_running(declared, "mlp", 100)
    assert apart.max() <= 10 * max(grown.max(), 1e-15)


@pytest.mark.parametrize("framework", ["jax", "torch"])
@pytest.mark.parametrize("text", ["momentum+lookahead+cautious", "muon+schedule_free", "esgd+ema[decay=0.5]"])
def test_contract(text, framework):
    task = TINY_QUADRATIC if "muon" not in text else TINY_MLP
    check(optimizers.parse(text), task, framework=framework, **({"steps": 100} if "muon" in text else {}))


def test_variance_reduction_around_adamw_is_mars():
    """On a matrix, where MARS reduces variance."""
    found = []
    for text in ("mars[b1=0.9]", "adamw[b2=0.99,weight_decay=0.0]+mars"):
        declared = optimizers.parse(text).replace(learning_rate=0.01)
        rule, params = declared.jax(SETTING), {"w": jnp.ones((3, 2))}
        state = rule.init(params)
        for t in range(5):
            grads = {"w": jnp.asarray(np.random.default_rng(t).standard_normal((3, 2)), jnp.float32)}
            params, state = rule.step(params, state, Fed(grads), t)[:2]
        found.append(params["w"])
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_sam_counts_two_gradients():
    rule = optimizers.parse("sgd+sam").torch(SETTING)
    params = {"w": torch.ones(3, requires_grad=True)}
    done = rule.step(params, rule.init(params), parity.TorchObjective(lambda p: (p["w"] ** 2).sum()), 0)
    assert done.counts.gradients == 2


def test_a_composition_travels_and_reads_as_it_is_written():
    for text in ("adamw[b1=0.95]+cautious", "lion+mars[gamma=0.05]+ema[decay=0.9]"):
        declared = optimizers.parse(text)
        assert declared.label() == text
        assert optimizers.parse(declared.label()) == declared == pickle.loads(pickle.dumps(declared))
        assert len(declared.trials(3)) == 3
        assert declared.trials(3)[0].learning_rate == declared.inner.trials(3)[0].learning_rate
    specs = [optimizers.parse(text).spec() for text in ("adamw+mars", "adamw+mars[gamma=0.5]", "adamw")]
    assert len({str(sorted(spec.items())) for spec in specs}) == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("lbfgs+clip", "line search"),
        ("esgd+mars", "products with the Hessian"),
        ("schedule_free_sgd+ema", "both decide where"),
        ("adamw+cautions", "Did you mean cautious"),
        ("muon[aux=prodigy]", "cannot step single parameters"),
    ],
)
def test_what_does_not_fit_is_said(text, why):
    with pytest.raises(UserError, match=why):
        optimizers.parse(text)


def test_a_wrapper_of_ones_own_is_a_dataclass_with_its_fields():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Shrunk(Wrapper, arrays=1):
        by: float = hyper(0.5, "factor of each step", bounds="(0, 1]")

        def moved(self, xp, before, after, grads, own, t, lr):
            return {name: before[name] + self.by * (after[name] - before[name]) for name in after}

    whole, half = optimizers.parse("sgd"), Composed(inner=optimizers.parse("sgd"), wrapper=Shrunk())
    with pytest.raises(UserError, match="outside"):
        Shrunk(by=2.0)
    assert half.due_hvps(steps=3) == 0
    assert Shrunk in half.made_of()  # a worker gets it
    assert half.spec()["shrunk.code"] == origin.code(Shrunk)
    assert half.memory == f"{whole.memory} + 1n"
    one, other = (
        run(cells_of(each, TINY_QUADRATIC, steps=2, rates=1, seeds=1), "loop")[0] for each in (whole, half)
    )
    assert one.losses[0] == other.losses[0]
    assert one.losses[1] < other.losses[1]
