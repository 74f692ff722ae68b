"""The programs of psgd-jax's README, with our `xmat` and `hessian_helper` and the package's random stream."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optbench.optimizers.psgd.jax_curvature import hessian_helper
from optbench.optimizers.xmat.jax import xmat
from optbench.rules.optax import TableNoise

START = (1.0, 2.0, 3.0)
SOLVED = 1e-4
"""The loss below which the README's programs end."""
PACKAGE_SEED = 36
"""The seed of the key that psgd-jax gives xmat."""
LAYOUTS = {"old": False, "new": True}
"""jax_threefry_partitionable: how jax drew random bits up to 0.4 and since 0.5."""


def drawn(key: jax.Array, steps: int) -> jax.Array:
    """The package's draws at each step: split for a uniform, split for the probe, split for its one leaf."""

    def draw(key: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        key, _uniform = jax.random.split(key)
        key, probe = jax.random.split(key)
        return key, jax.random.normal(jax.random.split(probe, 1)[0], (len(START),))

    return jax.lax.scan(draw, key, length=steps)[1]


def whitening_xmat(table: jax.Array) -> optax.GradientTransformationExtraArgs:
    """The README's optimizer with the package's numerics and these draws."""
    return xmat(learning_rate=1.0, b1=0.0, noise=TableNoise({"probe.": table}), upstream="0.2.9")


def whitening(seeds: int, steps: int, documented: list[float]) -> dict[str, Any]:
    """The whitening program with the package's key under both layouts, and with many other keys."""
    traces: dict[str, Any] = {}
    for name, partitionable in LAYOUTS.items():
        with jax.threefry_partitionable(partitionable):
            table = drawn(jax.random.PRNGKey(PACKAGE_SEED), steps)
        traces[name] = [str(loss) for loss in printed(table)]
    with jax.threefry_partitionable(False):
        keys = jax.vmap(jax.random.PRNGKey)(jnp.arange(seeds))
        losses = np.asarray(jax.jit(jax.vmap(lambda key: path(drawn(key, steps))))(keys), float)
    return traces | band(losses, np.array(documented)) | {"seeds": seeds, "lengths": lengths(losses)}


def band(losses: np.ndarray, documented: np.ndarray) -> dict[str, Any]:
    """The position of a trace among those of many seeds [seeds, steps]: quantiles, ranks, nearest distance."""
    shown = losses[:, : len(documented)]
    logs = np.log(shown[:, 1:])
    gaps = np.max(np.abs(logs - np.log(documented[1:])), axis=1)
    # The scale of that distance: from a seed to its own nearest neighbour.
    own = [np.partition(np.max(np.abs(logs - logs[i]), axis=1), 1)[1] for i in range(min(200, len(logs)))]
    levels = (0.0, 0.025, 0.5, 0.975, 1.0)
    return {
        "quantiles": {f"{level:g}": np.quantile(shown, level, axis=0).tolist() for level in levels},
        "ranks": np.mean(shown < documented, axis=0).tolist(),
        "nearest": float(gaps.min()),
        "neighbours": float(np.median(own)),
        "monotone": float(np.mean(np.all(np.diff(shown, axis=1) < 0, axis=1))),
    }


def lengths(losses: np.ndarray) -> dict[str, int]:
    """The number of seeds by the number of losses that they print; 0 if they do not finish."""
    solved = np.where((losses < SOLVED).any(axis=1), np.argmax(losses < SOLVED, axis=1) + 1, 0)
    return {str(length): int(count) for length, count in enumerate(np.bincount(solved)) if count}


def printed(table: jax.Array) -> list[np.float32]:
    """The losses that the README's loop prints, operation by operation: compiled rounding depends on the machine."""
    optimizer, shown = whitening_xmat(table), []
    with jax.disable_jit():
        params: Any = jnp.array(START)
        state = optimizer.init(params)
        for _ in range(len(table)):
            # The sum of squares in the order of the jax that the package runs on (0.4): the middle one last.
            first, middle, last = np.asarray(params) * np.asarray(params)
            shown.append((first + last) + middle)
            if shown[-1] < SOLVED:
                break
            updates, state = optimizer.update(jax.grad(loss_of)(params), state)
            params = optax.apply_updates(params, updates)
    return shown


def loss_of(params: jax.Array, x: Any = 0.0) -> jax.Array:
    return jnp.sum((params - x) ** 2)


def path(table: jax.Array) -> jax.Array:
    """The losses before each step, compiled."""
    optimizer, first = whitening_xmat(table), jnp.array(START)

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), loss

    return jax.lax.scan(step, (first, optimizer.init(first)), length=len(table))[1]


def hessian(seed: int, probability: float) -> dict[str, Any]:
    """The README's program for Hessian-vector products, called as it is there and as the newest release requires."""
    traces: dict[str, Any] = {}
    for name, partitionable in LAYOUTS.items():
        with jax.threefry_partitionable(partitionable):
            for form in ("README", "with train_step"):
                traces[f"{name}, {form}"] = curved(seed, probability, form)
    return traces


def curved(seed: int, probability: float, form: str) -> list[str]:
    params: Any = jnp.array(START)
    x, key = jnp.zeros(len(START)), jax.random.PRNGKey(seed)
    optimizer = xmat(learning_rate=1.0, b1=0.0, upstream="0.2.9")
    state, shown = optimizer.init(params), []
    for step in range(100):
        key, subkey = jax.random.split(key)
        where: Any = (loss_of, params) if form == "README" else (step, loss_of, params)
        loss, grads, hvp, vector, due = hessian_helper(
            subkey, *where, loss_fn_extra_args=(x,), preconditioner_update_probability=probability
        )
        updates, state = optimizer.update(grads, state, Hvp=hvp, vector=vector, update_preconditioner=due)
        params = optax.apply_updates(params, updates)
        shown.append(str(loss))
        if loss < SOLVED:
            break
    return shown
