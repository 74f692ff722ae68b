"""Golden traces of the original packages: loading them, and replaying them through a JAX transformation."""

import functools
import json
import lzma
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "golden"
TOLERANCE = {"float64": 1e-10, "float32": 5e-5}


@functools.cache
def load(optimizer: str) -> dict[str, dict]:
    return json.loads(lzma.decompress((FOLDER / f"{optimizer}.json.xz").read_bytes()))


def cases(optimizer: str, prefix: str = "") -> list[str]:
    return [name for name in load(optimizer) if name.startswith(prefix)]


def thinned(optimizer: str, quick: tuple[str, ...], marks=None) -> list:
    """Every trace; one whose name has none of `quick` in it is marked slow, as each costs a compilation."""
    import pytest

    known = marks or {}
    return [
        pytest.param(case, marks=known.get(case, () if any(q in case for q in quick) else pytest.mark.slow))
        for case in cases(optimizer)
    ]


def arrays(data):
    if isinstance(data, dict) and set(data) == {"shape", "dtype", "data"}:
        return np.asarray(data["data"], dtype="float64").astype(data["dtype"]).reshape(data["shape"])
    if isinstance(data, dict):
        return {key: arrays(value) for key, value in data.items()}
    if isinstance(data, list):
        return [arrays(value) for value in data]
    return data


def draw_tables(trace: dict) -> dict[str, np.ndarray]:
    """Recorded draws by name as arrays [steps, ...]; steps that drew nothing hold zeros."""
    steps = trace["steps"]
    tables: dict[str, np.ndarray] = {}
    for i, step in enumerate(steps):
        for draw in step["draws"]:
            value = np.asarray(arrays(draw["value"]))
            table = tables.setdefault(draw["name"], np.zeros((len(steps), *value.shape), value.dtype))
            table[i] = value
    return tables


def close(got, want, dtype: str, what: str, tolerance: float | None = None) -> None:
    """Fail unless every entry agrees relative to the largest entry of its array."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, recorded {want.shape}"
    assert np.isfinite(got).all(), f"{what}: not finite"
    scale = max(float(np.max(np.abs(want), initial=0.0)), 1e-300)
    error = float(np.max(np.abs(got - want), initial=0.0)) / scale
    limit = TOLERANCE[dtype] if tolerance is None else tolerance
    assert error <= limit, f"{what}: relative error {error:.2e} above {limit:.0e}"


def close_trees(got, want, dtype: str, what: str, tolerance: float | None = None) -> None:
    if isinstance(want, dict):
        for key, value in want.items():
            close_trees(got[key], value, dtype, f"{what}.{key}", tolerance)
    elif isinstance(want, list):
        assert len(got) == len(want), f"{what}: {len(got)} entries, recorded {len(want)}"
        for i, value in enumerate(want):
            close_trees(got[i], value, dtype, f"{what}[{i}]", tolerance)
    elif want is None:
        assert got is None, f"{what}: recorded None"
    else:
        close(got, want, dtype, what, tolerance)


def replay_jax(trace, make, state_of, tolerance=None, extra=lambda step: {}, check_updates=True) -> None:
    """Feed the recorded gradients and draws to a transformation; compare updates, parameters and state.

    `make(noise)` builds the transformation, `state_of(state)` gives its state in the recorded form (a subset
    of keys will do), `extra(step)` the extra arguments of `update`.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from optbench.rules.optax import TableNoise

    dtype = trace["dtype"]
    with jax.enable_x64(dtype == "float64"):
        noise = TableNoise({name: jnp.asarray(table) for name, table in draw_tables(trace).items()})
        transform = optax.with_extra_args_support(make(noise))
        params = jax.tree.map(jnp.asarray, arrays(trace["init_params"]))
        state = transform.init(params)

        @jax.jit
        def advance(grads, state, params, extra):
            updates, state = transform.update(grads, state, params, **extra)
            return updates, state, optax.apply_updates(params, updates)

        for recorded in trace["steps"]:
            where = f"{trace['id']} {dtype} step {recorded['t']}"
            step = arrays(recorded)
            updates, state, params = advance(step["grads"], state, params, extra(step))
            if check_updates:
                close_trees(updates, step["updates"], dtype, f"{where} updates", tolerance)
            close_trees(params, step["params"], dtype, f"{where} params", tolerance)
            got = state_of(state)
            close_trees(got, {key: step["state"][key] for key in got}, dtype, f"{where} state", tolerance)


def replay_torch(trace, make, state_of, tolerance=None, feed=None, before=None) -> None:
    """Feed the recorded gradients and draws to a torch optimizer; compare parameters and state.

    `make(named, noise)` builds the optimizer over (name, parameter) pairs in leaf order, `state_of(optimizer,
    params)` gives its state in the recorded form (a subset of keys will do). `feed(params, step)` writes the
    gradients, by default the recorded ones; `feed_curved` for optimizers that differentiate them.
    `before(optimizer, step)` runs before each step, for a schedule or for extra arguments.
    """
    import torch

    from optbench.rules.torch import TableNoise

    torch.set_num_threads(1)
    dtype = trace["dtype"]
    noise = TableNoise({name: torch.from_numpy(table) for name, table in draw_tables(trace).items()})
    first = arrays(trace["init_params"])
    params = {name: torch.tensor(first[name], requires_grad=True) for name in trace["leaf_order"]}
    optimizer = make(list(params.items()), noise)
    for recorded in trace["steps"]:
        where = f"{trace['id']} {dtype} step {recorded['t']}"
        step = arrays(recorded)
        (feed or feed_plain)(params, step)
        if before is not None:
            before(optimizer, step)
        optimizer.step()
        values = {name: param.detach().numpy() for name, param in params.items()}
        close_trees(values, step["params"], dtype, f"{where} params", tolerance)
        got = state_of(optimizer, params)
        close_trees(got, {key: step["state"][key] for key in got}, dtype, f"{where} state", tolerance)


def feed_plain(params, step) -> None:
    import torch

    for name, param in params.items():
        param.grad = torch.tensor(step["grads"][name])


def feed_curved(params, step) -> None:
    """The recorded gradients with a graph whose product with the recorded signs is the recorded product.

    g + c (theta - theta_now) has the derivative c; with c = (H v) v and v = +-1 its product with v is H v.
    """
    import torch

    feed_plain(params, step)
    if step["hvp"] is None:
        return
    signs = {draw["name"]: draw["value"] for draw in step["draws"]}
    for name, param in params.items():
        slope = torch.tensor(step["hvp"][name] * signs[f"probe.{name}"], dtype=param.dtype)
        param.grad = param.grad + slope * (param - param.detach())
