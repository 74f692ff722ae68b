"""Methods written once against traces of their originals, in both frameworks; where optax gives one, that too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from optbench import optimizers
from optbench.optimizers.leafwise import jax_arrays
from optbench.optimizers.leafwise.jax import transformation
from optbench.optimizers.leafwise.torch import class_of
from optbench.rules import torch as torch_rules
from optbench.rules.optax import TableNoise
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
    given = {MUON.get(key, key): value for key, value in plain(trace).items()}
    if trace.case.startswith("moonlight"):
        b1, b2 = given.pop("adamw_betas", (0.9, 0.95))
        given = {"learning_rate": 1e-3, "weight_decay": 0.1, "scale": "moonshot"} | given
        aux = {"aux_weight_decay": given["weight_decay"], "adam_eps": given.pop("adamw_eps", 1e-8)}
        return given | aux | {"adam_b1": b1, "adam_b2": b2}
    own, other = (
        {key: value for key, value in group.items() if key not in GROUP} for group in (*trace.groups, {})[:2]
    )
    given |= {"learning_rate": 0.02} | {MUON.get(key, key): value for key, value in own.items()}
    b1, b2 = other.pop("betas", (0.9, 0.95))
    given |= {"aux_scale": other.pop("lr", 3e-4) / given["learning_rate"], "adam_b1": b1, "adam_b2": b2}
    return given | {{"eps": "adam_eps"}.get(key, f"aux_{key}"): value for key, value in other.items()}


MUON = {"lr": "learning_rate", "momentum": "b1", "beta2": "b2", "ns_steps": "iterations"}
GROUP = ("leaves", "use_muon", "name")
"""What a param group says beside options."""


def schedule_free(trace):
    defaults = {"learning_rate": 0.0025 if trace.optimizer == "schedule_free_adamw" else 1.0}
    given = defaults | plain(trace)
    given["b1"] = given.pop("momentum", given.get("b1", 0.9))
    return {key: value for key, value in given.items() if key != "warmup_steps"}


def warmup(trace, xp):
    """The factor of the learning rate at step t, counted from 0."""
    steps = trace.hyperparameters.get("warmup_steps", 0)
    return lambda t: xp.minimum((t + 1) / steps, 1) if steps else 1.0


NORM = {"Auto": "auto", "BiasRMS": "bias", "Spectral": "spectral", "SpectralConv": "conv", "Sign": "sign"}
NORM |= {"ColNorm": "column", "RowNorm": "row"}


def scion(trace):
    given = plain(trace)
    momentum = given.pop("momentum", 1.0)
    defaults = {"scale": 1.0, "head_scale": 1.0, "head_norm": "auto", "embedding_norm": "auto"}
    return {"learning_rate": 1e-3} | defaults | given | {"b1": 1 - momentum}


def scion_group(group):
    given = {key: value for key, value in group.items() if key not in GROUP}
    own = given.pop("norm_kwargs", {})
    given |= {{"max": "at_least_1", "steps": "iterations"}.get(key, key): value for key, value in own.items()}
    return given | {"norm": NORM[given.pop("norm", "Auto")]}


def adam_mini_group(group):
    return {"vectors": "entry" if "bias" in group["name"] else "leaf"}


def lamb(trace):
    given = {"weight_decay": 0.01, "max_grad_norm": 1.0, "always_adapt": False, "learning_rate": 1e-3}
    return given | plain(trace)


def lars(trace):
    given = {{"trust_coeff": "trust"}.get(key, key): value for key, value in plain(trace).items()}
    return {"momentum": 0.0, "eps": 1e-8} | {
        key: value for key, value in given.items() if key != "always_adapt"
    }


def sophia(trace):
    given = {"learning_rate": 1e-4, "weight_decay": 0.1} | plain(trace)
    return given | {"gamma": given.pop("rho", 0.04) * given.pop("bs", 5120)}


def yogi(trace):
    given = plain(trace)
    return given | {"first": given.pop("initial_accumulator", 1e-6)}


def mars(trace):
    given = plain(trace)
    for i, value in enumerate(given.pop("betas_1d", ()), 1):
        given[f"b{i}_1d"] = value
    given["scale_1d"] = given.pop("lr_1d", 3e-3) / given.get("learning_rate", 3e-3)
    return given | {"base": given.pop("mars_type", "mars-adamw").removeprefix("mars-")}


def sm3(trace):
    return {{"momentum": "b1"}.get(key, key): value for key, value in plain(trace).items()}


def dion(trace):
    given = {DION.get(key, key): value for key, value in plain(trace).items() if key != "qr_method"}
    other = trace.groups[-1]
    given = {"learning_rate": 0.01, "weight_decay": 0.01, "adam_eps": 1e-8} | given
    given["aux_scale"] = other.get("lr", given["learning_rate"]) / given["learning_rate"]
    given["aux_weight_decay"] = given["weight_decay"]
    if other["algorithm"] == "lion":
        given["aux"] = f"lion[b2=0.95,weight_decay={given['weight_decay']}]"
    if given.pop("rank_multiple_of", 1) == 2:  # with these shapes, a rank of 2
        given["rank_fraction"] = 0.5
    return given


DION = {"mu": "b1", "epsilon": "eps", "power_iters": "power_iterations"}


def shampoo(trace):
    given = {
        "learning_rate": 0.01,
        "b1": 0.9,
        "b2": 1.0,
        "eps": 1e-12,
        "grafting": "none",
        "grafting_eps": 1e-10,
    }
    given["precondition_frequency"] = 1
    given |= {SHAMPOO.get(key, key): value for key, value in plain(trace).items()}
    sums = given.pop("momentum", {})
    given |= {SHAMPOO.get(key, key): value for key, value in sums.items()}
    given["merge_dims"] = given.pop("target_parameter_dimensionality", 1) != "inf"
    for order, exponent in given.pop("inverse_exponent_override", {}).items():
        given["power"] = exponent * int(order)
    given["decouple"] = given.pop("weight_decay_type", "decoupled") == "decoupled"
    return {key: value for key, value in given.items() if value is not None}


SHAMPOO = {"epsilon": "eps", "grafting_beta2": "grafting_b2", "grafting_epsilon": "grafting_eps"}
SHAMPOO |= {"use_bias_correction": "bias_correction", "use_nesterov": "nesterov"}


OPTIONS = {
    "soap": plain,
    "lion": lion,
    "adopt": adopt,
    "adan": adan,
    "ademamix": ademamix,
    "muon": muon,
    "mars": mars,
    "normuon": muon,
    "scion": scion,
    "prodigy": plain,
    "schedule_free_adamw": schedule_free,
    "schedule_free_sgd": schedule_free,
    "adam_mini": plain,
    "lamb": lamb,
    "lars": lars,
    "sophia": sophia,
    "yogi": yogi,
    "sm3": sm3,
    "dion": dion,
    "shampoo": shampoo,
}
"""Our options from those of an original's trace."""
BY_GROUP = {"scion": scion_group, "adam_mini": adam_mini_group}
"""Our options of a param group from an original's."""
WITHOUT = {
    "prodigy-slice": "slice_p saves memory by looking at a part of each parameter",
    "adam_mini-heads": "a mean of squares for each head of attention",
    "lars-default": "scales nothing without weight decay: momentum",
    "sm3-beta": "another package's decay",
    "dion-simple_default": "wide matrices not transposed: another basis",
    "dion-simple_low_rank": "the same",
}
"""Traces of options that we have not."""


def method(name, trace):
    return optimizers.parse(name).replace(**OPTIONS[name](trace))


def roles(trace):
    """What an original was not told to step as a hidden matrix."""
    return {
        name: "head"
        for group in trace.groups
        for name in group["leaves"]
        if not group.get("use_muon", group.get("algorithm", "dion") == "dion") and trace.init[name].ndim > 1
    }


def every(slow=False):
    """Each trace; if `slow`, all but the first of an optimizer are."""
    return [
        pytest.param(name, case, marks=[pytest.mark.slow] * (slow and i > 0))
        for name in OPTIONS
        for i, case in enumerate(originals.cases(name))
        if f"{name}-{case.rpartition('_')[0]}" not in WITHOUT
    ]


CUT = {"shampoo-blocks": "E"}
"""Leaves that an original cuts into blocks, which we do not; the others do not see them."""


def load(name, case):
    trace = originals.load(name, case)
    cut = CUT.get(f"{name}-{case.rpartition('_')[0]}")
    for tree in (trace.init, *(each for step in trace.steps for each in step.values())):
        if cut is not None:
            tree.pop(cut, None)
    return trace


def drawn(trace, noise, array):
    """The recorded first draws."""
    return noise({key.replace("Q.", "start."): array(value[None]) for key, value in trace.draws.items()})


def leaf_options(name, trace):
    """The options of each parameter, where groups have their own; {} where all have the same."""
    if name not in BY_GROUP:
        return {}
    return {leaf: BY_GROUP[name](group) for group in trace.groups for leaf in group["leaves"]}


def curved(name, step, t, trace):
    """The recorded diagonal as a product along ones."""
    if name != "sophia" or not trace.draws["sampled_at"][t]:
        return None
    return {leaf: value**2 for leaf, value in step["sampled"].items()}


@pytest.mark.parametrize(("name", "case"), every())
def test_torch_holds_the_trace(name, case):
    trace = load(name, case)
    ours, factor = method(name, trace), warmup(trace, np)
    cls, own = class_of(type(ours)), leaf_options(name, trace)
    count = iter(range(len(trace.steps)))

    def make(named):
        options = {**ours.options(), "roles": roles(trace)}
        if ours.draws:
            options["noise"] = drawn(trace, torch_rules.TableNoise, torch.from_numpy)
        if not own:
            return cls(named, ours.learning_rate, **options)
        renamed = {leaf: {RENAMED.get(k, k): v for k, v in own[leaf].items()} for leaf, _ in named}
        rates = {leaf: given.pop("learning_rate", ours.learning_rate) for leaf, given in renamed.items()}
        groups = [{"params": [(leaf, p)], "lr": rates[leaf], **renamed[leaf]} for leaf, p in named]
        return cls(groups, ours.learning_rate, **options)

    def before(optimizer, params, step):
        t = next(count)
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("first_lr", group["lr"]) * factor(t)
        diagonal = curved(name, step, t, trace)
        if diagonal is not None:
            hvp = [torch.tensor(diagonal[leaf]) for leaf in params]
            ones = [torch.ones_like(each) for each in hvp]
            optimizer.step = functools.partial(type(optimizer).step, optimizer, hvp=hvp, vector=ones)
        else:
            vars(optimizer).pop("step", None)

    def seen(optimizer, params):
        found = {}
        if "x" in trace.steps[0]:
            optimizer.eval()
            found["x"] = {leaf: p.detach().numpy().copy() for leaf, p in params.items()}
            optimizer.train()
        return found

    originals.replay_torch(trace, make, before, seen)


@pytest.mark.parametrize(("name", "case"), every(slow=True))
def test_jax_holds_the_trace(name, case):
    trace = load(name, case)
    ours, factor, own = method(name, trace), warmup(trace, jnp), leaf_options(name, trace)

    def made(optimizer):
        rate = optimizer.learning_rate
        return transformation(
            optimizer,
            lambda t: rate * factor(jnp.asarray(t, float)),
            roles(trace),
            drawn(trace, TableNoise, jnp.asarray),
        )

    transform = made(ours)
    if own:
        each = {leaf: {RENAMED.get(k, k): v for k, v in options.items()} for leaf, options in own.items()}
        parts = {leaf: made(ours.replace(**options)) for leaf, options in each.items()}
        transform = optax.multi_transform(parts, {leaf: leaf for leaf in trace.init})
    count = iter(range(len(trace.steps)))

    def extra(step):
        t = next(count)
        if name != "sophia":
            return {}
        zeros = {leaf: jnp.zeros_like(value) for leaf, value in trace.init.items()}
        ones = {leaf: jnp.ones_like(value) for leaf, value in trace.init.items()}
        diagonal = curved(name, step, t, trace)
        due = diagonal is not None
        return {"Hvp": diagonal if due else zeros, "vector": ones, "update_preconditioner": jnp.asarray(due)}

    def seen(state, params):
        if "x" not in trace.steps[0]:
            return {}
        leaves, structure = jax.tree.flatten(params)
        pairs = zip(leaves, state.leaves, strict=True)
        return {"x": structure.unflatten([ours.evaluated(jax_arrays, p, s) for p, s in pairs])}

    originals.replay_jax(trace, transform, extra, seen)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_trace_is_finite_and_moves_every_leaf(name):
    for case in originals.cases(name):
        trace = originals.load(name, case)
        assert len(trace.steps) >= 30
        for leaf, start in trace.init.items():
            path = np.stack([step["params"][leaf] for step in trace.steps])
            assert np.isfinite(path).all()
            assert (path[-1] != start).any(), f"{name} {case}: {leaf} never moved"


@pytest.mark.parametrize("case", ["default_float64", "decay_float32"])
def test_lion_of_optax_is_the_original_too(case):
    trace = originals.load("lion", case)
    options = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.0} | trace.hyperparameters
    b1, b2 = options["betas"]
    originals.replay_jax(trace, optax.lion(options["lr"], b1=b1, b2=b2, weight_decay=options["weight_decay"]))


def test_a_replay_fails_where_one_constant_differs():
    with pytest.raises(AssertionError, match="step 3 params"):
        originals.replay_jax(
            originals.load("lion", "default_float64"), optax.lion(1e-4, b1=0.9, b2=0.98, weight_decay=0.0)
        )
