"""What the tests of XMat, LRA and Affine share: replaying their traces in both modes."""

import numpy as np
import pytest

from tests import traces

CLOSE = traces.close
"""The ordinary comparison; a replay may put another in its place."""


def options(trace):
    given = dict(trace["hyperparameters"])
    if isinstance(given.get("precond_lr"), dict):
        given["precond_lr"] = lambda count: 0.5 / count
    return given


def prepared(trace):
    """The trace with the draws of the first state beside those of its first step."""
    first, *rest = trace["steps"]
    return {**trace, "steps": [{**first, "draws": first["draws"] + (trace["init_draws"] or [])}, *rest]}


def curvature(step):
    if "hessian_helper" not in step:
        return {}
    given = step["hessian_helper"]
    return {
        "Hvp": given["hvp"],
        "vector": given["vector"],
        "update_preconditioner": given["update_preconditioner"],
    }


def close_absolutely(got, want, dtype, what, tolerance=None):
    """For problems of size one that are solved to rounding, where what is left is rounding."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, recorded {want.shape}"
    error = np.max(np.abs(got - want), initial=0.0) / max(1.0, np.max(np.abs(want), initial=0.0))
    assert error <= {"float64": 1e-10, "float32": 1e-6}[dtype], f"{what}: error {error:.2e}"


def close_but_for_params(got, want, dtype, what, tolerance=None):
    """For a problem of size one that runs into its minimum at 0: parameters lose their leading digits there."""
    comparison = close_absolutely if " params" in what else CLOSE
    comparison(got, want, dtype, what)


def close_of(trace):
    if "readme" not in trace["id"]:
        return traces.close
    return close_absolutely if trace["mode"] == "hessian" else close_but_for_params


def replay(make, trace, factors_of):
    def state_of(state):
        inner = state[0]
        return {"count": inner.count, "mu": inner.mu, **factors_of(inner)}

    given = options(trace)
    if trace["id"].startswith("xmat010"):
        given["upstream"] = "0.1.0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traces, "close", close_of(trace))
        traces.replay_jax(
            prepared(trace), lambda noise: make(**given, noise=noise), state_of, extra=curvature
        )


def replay_torch(make, trace, factors_of):
    def state_of(optimizer, params):
        mus = {name: optimizer.state[p].get("mu") for name, p in params.items()}
        mu = mus if optimizer.param_groups[0]["b1"] else None
        return {"count": optimizer.param_groups[0]["count"], "mu": mu, **factors_of(optimizer, params)}

    given = options(trace)
    rename(given)
    if trace["id"].startswith("xmat010"):
        given["upstream"] = "0.1.0"

    def build(named, noise):
        optimizer = make(named, noise=noise, **given)
        # The replay calls step(); what belongs beside the gradients is laid ready by `before`.
        optimizer.curvature = {}
        optimizer.step = lambda: type(optimizer).step(optimizer, **optimizer.curvature)
        return optimizer

    def before(optimizer, step):
        import torch

        optimizer.curvature = {
            key.lower(): [torch.tensor(value[name]) for name in trace["leaf_order"]]
            if isinstance(value, dict)
            else value
            for key, value in curvature(step).items()
        }

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traces, "close", close_of(trace))
        traces.replay_torch(prepared(trace), build, state_of, before=before)


def rename(given):
    """Name the learning rate as torch does; a schedule is returned, for `before` to set."""
    rate = given.pop("learning_rate", None)
    if callable(rate):
        return rate
    if rate is not None:
        given["lr"] = rate
    return None


def pop_tree(given, name):
    tree = given.pop(name, None)
    return tree if isinstance(tree, dict) else {}


def by_group(named, given, trees):
    """Param groups for what is a tree of bool in JAX: stacks of layers, and where decay is on."""
    groups = []
    for name, param in named:
        own = {"params": [(name, param)]}
        if trees["scanned_layers"]:
            own["scanned_layers"] = trees["scanned_layers"][name]
        if trees["weight_decay_mask"] and not trees["weight_decay_mask"][name]:
            own["weight_decay"] = 0.0
        groups.append(own)
    return groups


def first_factors(optimizer, params):
    return optimizer.state[next(iter(params.values()))]["factors"]


def mostly_slow(optimizer, quick):
    """All traces of an optimizer, those not in `quick` marked slow: a compilation each."""
    return [
        case if case in quick else pytest.param(case, marks=pytest.mark.slow)
        for case in traces.cases(optimizer)
    ]
