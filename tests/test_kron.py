"""PSGD Kron in both frameworks against psgd-jax 0.2.9 and 0.2.7, trace by trace."""

import json

import numpy as np
import pytest

from tests import groups, traces

QUICK = ("kron_default_mlp_f64", "kron_scanned_stream_f32", "kron027_random_prob0p4_mlp_f64")


def needs_upstream(trace):
    """Whether a trace shows a fault of the original: it grows Q without end on zero gradients, and balances
    float64 factors in float32."""
    draws = [draw for step in trace["steps"] for draw in step["draws"]]
    balances = any(float(draw["value"]["data"][0]) < 0.01 for draw in draws if draw["name"] == "balance_u")
    return trace["id"] == "kron_zero_grads_stream" or (balances and trace["dtype"] == "float64")


def options(trace, schedule):
    given = dict(trace["hyperparameters"])
    if isinstance(given.get("learning_rate"), dict):
        given["learning_rate"] = lambda count: 0.1 / (1 + count)
    probability = given.get("preconditioner_update_probability")
    if isinstance(probability, dict):
        given["preconditioner_update_probability"] = schedule(**probability["precond_update_prob_schedule"])
    if trace["id"].startswith("kron027"):
        return {**given, "upstream": "0.2.7"}
    return {**given, "upstream": "0.2.9" if needs_upstream(trace) else None}


@pytest.mark.parametrize("case", groups.mostly_slow("psgd_kron", QUICK))
def test_kron_in_jax_holds_the_golden_trace(case):
    from optbench.optimizers.kron.jax import kron, precond_update_prob_schedule

    trace = traces.load("psgd_kron")[case]
    given = options(trace, precond_update_prob_schedule)

    def state_of(state):
        inner = state[0]
        held = {"count": inner["count"], "mu": inner["mu"], "Q": inner["Qs_preconditioners"]}
        if given["upstream"] != "0.2.7":
            held["update_counter"] = inner["update_counter"]
        return held

    tolerance = 2e-2 if "bf16" in case else None
    traces.replay_jax(trace, lambda noise: kron(**given, noise=noise), state_of, tolerance)


@pytest.mark.parametrize("case", traces.cases("psgd_kron"))
def test_kron_in_torch_holds_the_golden_trace(case):
    import torch

    from optbench.optimizers.kron.torch import Kron, precond_update_prob_schedule

    trace = traces.load("psgd_kron")[case]
    given = options(trace, precond_update_prob_schedule)
    rates = groups.rename(given)
    for name in ("mu_dtype", "precond_dtype"):
        if given.get(name):
            given[name] = getattr(torch, given[name])
    split = {name: groups.pop_tree(given, name) for name in ("scanned_layers", "weight_decay_mask")}
    given = {name: value for name, value in given.items() if not name.startswith("lax_map")}

    def number(tensor):
        return tensor.to(getattr(torch, trace["dtype"]))

    def make(named, noise):
        return Kron(groups.by_group(named, given, split), noise=noise, **given)

    def state_of(optimizer, params):
        first = optimizer.param_groups[0]
        held = {
            "count": first["count"],
            "mu": {name: number(optimizer.state[p]["mu"]) for name, p in params.items()}
            if first["b1"]
            else None,
            "Q": {name: [number(q) for q in optimizer.state[p]["Q"]] for name, p in params.items()},
        }
        if first["upstream"] != "0.2.7":
            held["update_counter"] = first["update_counter"]
        return held

    def before(optimizer, step):
        for group in optimizer.param_groups:
            group["lr"] = rates(step["t"] - 1) if rates else group["lr"]

    tolerance = 2e-2 if "bf16" in case else None
    traces.replay_torch(trace, make, state_of, tolerance, before=before)


def test_the_default_schedule_is_the_recorded_one():
    from optbench.optimizers.kron import jax, torch

    recorded = json.loads((traces.FOLDER / "kron_schedule.json").read_text())
    for module in (jax, torch):
        schedule = module.precond_update_prob_schedule(**recorded["defaults"])
        for n, value in recorded["default_values"]:
            np.testing.assert_allclose(schedule(n), value, rtol=2e-6)


def test_the_counter_updates_on_the_recorded_steps():
    import torch

    from optbench.optimizers.kron.torch import Kron

    recorded = json.loads((traces.FOLDER / "kron_schedule.json").read_text())
    expected = {"None": recorded["default_update_steps_first_6000"]}
    expected |= recorded["constant_probability_first_40_update_steps"]
    for probability, steps in expected.items():
        given = None if probability == "None" else float(probability)
        optimizer = Kron([torch.zeros(2)], preconditioner_update_probability=given)
        (group,), due = optimizer.param_groups, []
        for t in range(1, steps[-1] + 1):
            if optimizer.due(group):
                due.append(t)
            group["count"] += 1
        assert due == steps, f"probability {probability}"


def test_probes_of_small_leaves_are_one_stream():
    """Guards compile time: a network has dozens of leaves, and a generator for each took half of it."""
    import jax
    import jax.numpy as jnp

    from optbench.rules.optax import SHARED_BELOW, KeyNoise, probes

    tree = {f"leaf{i}": jnp.zeros((3, i + 1)) for i in range(8)}
    draw = jax.jit(lambda t, tree: probes(KeyNoise.seeded(1), t, tree))
    # Each stream of normal draws takes one logarithm.
    assert draw.lower(jnp.int32(0), tree).compile().as_text().count(" log-plus-one(") == 1
    drawn = np.concatenate([np.ravel(x) for x in draw(jnp.int32(3), tree).values()])
    assert len(np.unique(drawn)) == drawn.size
    large = {**tree, "large": jnp.zeros(SHARED_BELOW)}
    np.testing.assert_array_equal(draw(jnp.int32(3), large)["leaf2"], draw(jnp.int32(3), tree)["leaf2"])


@pytest.mark.slow
def test_factors_fitted_as_a_stack_are_those_fitted_alone(monkeypatch):
    """Leaves of several shapes and dtypes, diagonal and triangular factors, one leaf without gradient."""
    import jax
    import jax.numpy as jnp

    from optbench.optimizers.kron import jax_factors
    from optbench.optimizers.kron.jax import scale_by_kron

    with jax.enable_x64(True):
        shapes = {"a": (4, 6, 3), "b": (6, 4), "c": (4,), "d": (40, 6), "e": (3, 3), "f": ()}
        keys = dict(zip(shapes, jax.random.split(jax.random.key(0), len(shapes)), strict=True))
        grads = {name: jax.random.normal(keys[name], shape) for name, shape in shapes.items()}
        grads["e"] = jnp.zeros((3, 3), jnp.float32)

        def factors(small):
            monkeypatch.setattr(jax_factors, "SMALL", small)
            transform = scale_by_kron(memory_save_mode="smart_one_diag")
            state = transform.init(grads)
            for _ in range(5):
                _, state = transform.update(grads, state)
            return jax.tree.leaves(state["Qs_preconditioners"])

        for stacked, alone in zip(factors(32), factors(0), strict=True):
            assert stacked.dtype == alone.dtype
            np.testing.assert_allclose(stacked, alone, rtol=1e-6 if stacked.dtype == "float32" else 1e-13)
