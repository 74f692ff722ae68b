"""Methods written once against traces of their originals, in both frameworks; where optax gives one, that too."""

import pytest

from optbench import optimizers
from optbench.optimizers.leafwise.jax import transformation
from optbench.optimizers.leafwise.torch import class_of
from optbench.rules.optax import KeyNoise
from tests import originals

RENAMED = {"lr": "learning_rate", "d0": "first", "beta3": "b3", "wd": "weight_decay"}
"""Our names for what several originals call otherwise."""


def plain(trace):
    """The options of a trace by our names."""
    given = {RENAMED.get(key, key): value for key, value in trace.hyperparameters.items()}
    return given | {f"b{i}": value for i, value in enumerate(given.pop("betas", ()), 1)}


def lion(trace):
    given = plain(trace)
    if given.pop("decoupled_weight_decay", False):
        given["weight_decay"] /= given["learning_rate"]
    return {"weight_decay": 0.0} | given


def adopt(trace):
    given = {"decouple": False} | plain(trace)
    power = given.pop("clip_lambda", "step ** 0.25")
    return given | {"clip_power": power and float(power.split()[-1])}


def adan(trace):
    given = plain(trace)
    return given | {"prox": not given.pop("no_prox", False)}


def ademamix(trace):
    given = {"alpha": 2.0} | plain(trace)
    return given | {"b3_warmup": given.pop("beta3_warmup", 0)}


def muon(trace):
    given = plain(trace)
    given = {
        {"momentum": "b1", "ns_steps": "iterations"}.get(key, key): value for key, value in given.items()
    }
    if trace.case.startswith("moonlight"):
        b1, b2 = given.pop("adamw_betas", (0.9, 0.95))
        given = {"learning_rate": 1e-3, "weight_decay": 0.1, "scale": "moonshot"} | given
        aux = {"aux_weight_decay": given["weight_decay"], "adam_eps": given.pop("adamw_eps", 1e-8)}
        return given | aux | {"adam_b1": b1, "adam_b2": b2}
    own, other = trace.groups
    given["learning_rate"], aux_rate = own.get("lr", 0.02), other.get("lr", 3e-4)
    given |= {"b1": own.get("momentum", 0.95), "weight_decay": own.get("weight_decay", 0.0)}
    given |= {"aux_scale": aux_rate / given["learning_rate"], "adam_eps": other.get("eps", 1e-10)}
    b1, b2 = other.get("betas", (0.9, 0.95))
    return given | {"aux_weight_decay": other.get("weight_decay", 0.0), "adam_b1": b1, "adam_b2": b2}


def mars(trace):
    given = plain(trace)
    for i, value in enumerate(given.pop("betas_1d", ()), 1):
        given[f"b{i}_1d"] = value
    given["scale_1d"] = given.pop("lr_1d", 3e-3) / given.get("learning_rate", 3e-3)
    return given | {"base": given.pop("mars_type", "mars-adamw").removeprefix("mars-")}


OPTIONS = {
    "soap": plain,
    "lion": lion,
    "adopt": adopt,
    "adan": adan,
    "ademamix": ademamix,
    "muon": muon,
    "mars": mars,
}
"""Our options from those of an original's trace."""
WITHOUT = {"adan-max_grad_norm": "clips the norm over all parameters: `clip` around it"}
"""Traces of options that we have not, and what gives the same."""


def method(name, trace):
    return optimizers.parse(name).replace(**OPTIONS[name](trace))


def roles(trace):
    """What an original was not told to step as a hidden matrix."""
    return {
        name: "head"
        for group in trace.groups
        for name in group["leaves"]
        if not group.get("use_muon", True) and trace.init[name].ndim > 1
    }


def every():
    return [
        (name, case)
        for name in OPTIONS
        for case in originals.cases(name)
        if f"{name}-{case.rpartition('_')[0]}" not in WITHOUT
    ]


@pytest.mark.parametrize(("name", "case"), every())
def test_torch_holds_the_trace(name, case):
    trace = originals.load(name, case)
    ours = method(name, trace)
    options = {**ours.options(), "roles": roles(trace)}
    originals.replay_torch(trace, lambda named: class_of(type(ours))(named, ours.learning_rate, **options))


@pytest.mark.parametrize(("name", "case"), every())
def test_jax_holds_the_trace(name, case):
    trace = originals.load(name, case)
    ours = method(name, trace)
    originals.replay_jax(trace, transformation(ours, ours.learning_rate, roles(trace), KeyNoise.seeded(0)))
