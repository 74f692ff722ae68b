"""Expectigrad's equations, divisor and momentum, and the problems on which Adam diverges."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optbench import optimizers
from optbench.optimizers.expectigrad.jax import expectigrad

from . import apart
from .training import built, streamed

Array = np.ndarray


def gradients_with_zeros(steps: int, size: int, seed: int) -> Array:
    """From N(0, 1), a third replaced by zero."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((steps, size)) * (rng.random((steps, size)) > 1 / 3)


def pseudocode(gradients: Array, lr: float, beta: float, eps: float, sparse: bool) -> Array:
    """The changes of x, line by line as in the document."""
    s, n, m = np.zeros((3, *gradients[0].shape))
    moves = []
    for t, g in enumerate(gradients, 1):
        s = s + g**2
        n = n + (np.sign(g**2) if sparse else 1)
        mean = np.divide(s, n, out=np.zeros_like(s), where=n > 0)
        m = beta * m + (1 - beta) * (g / (eps + np.sqrt(mean)))
        moves.append(-lr / (1 - beta**t) * m)
    return np.array(moves)


def equations(steps: int, size: int, seed: int) -> dict[str, Any]:
    """The largest relative distance between our updates and the document's pseudocode; the defaults; the ranges."""
    g, gaps = gradients_with_zeros(steps, size, seed), {}
    for beta, sparse in ((0.9, True), (0.9, False), (0.0, True)):
        moves = streamed(expectigrad(beta=beta, sparse_counter=sparse), g)[1]
        want = pseudocode(g, 0.001, beta, 1e-8, sparse)
        gaps[f"beta={beta:g}, sparse_counter={sparse}"] = apart(moves, want)
    named = inspect.signature(expectigrad).parameters
    edges = (("beta", 1.0), ("beta", -0.1), ("eps", 0.0), ("beta", 0.0), ("eps", 1e-8))
    return {
        "apart": gaps,
        "defaults": {name: named[name].default for name in ("lr", "beta", "eps", "sparse_counter")},
        "refused": {f"{name}={value:g}": refuses(**{name: value}) for name, value in edges},
    }


def refuses(**options: Any) -> bool:
    try:
        expectigrad(**options)
    except ValueError:
        return True
    return False


def divisor(steps: int, seed: int) -> dict[str, Any]:
    """Relative distance of sqrt(s / n), and of Adam's bias-corrected root, from the RMS of the nonzero gradients."""
    g = gradients_with_zeros(steps, 8, seed)
    ours, adam = (streamed(each, g)[0][0] for each in (expectigrad(), optax.adam(0.001)))
    true = np.sqrt((g**2).sum(axis=0) / (g != 0).sum(axis=0))
    roots = {"expectigrad": np.sqrt(ours.sum / ours.counter), "adam": np.sqrt(adam.nu / (1 - 0.999**steps))}
    return {
        "apart": {name: float(np.abs(root / true - 1).max()) for name, root in roots.items()},
        "of": steps,
    }


def superposition(steps: int, size: int, seed: int) -> dict[str, Any]:
    """Distance of the updates from an average of the steps without momentum, relative to the largest update.

    It is zero for momentum after the adaptation (outer), not for momentum before it (inner).
    """
    g = np.random.default_rng(seed).standard_normal((steps, size)) * np.geomspace(0.1, 10, steps)[:, None]
    pairs = {
        "expectigrad": (expectigrad(lr=1.0), expectigrad(lr=1.0, beta=0.0)),
        "adam": (optax.adam(1.0), optax.adam(1.0, b1=0.0)),
    }
    gaps = {}
    for name, (moving, plain) in pairs.items():
        m, want, updates = np.zeros(size), [], streamed(moving, g)[1]
        for t, u in enumerate(streamed(plain, g)[1], 1):
            m = 0.9 * m + 0.1 * u
            want.append(m / (1 - 0.9**t))
        gaps[name] = apart(np.array(want), updates)
    return gaps


def periodic(
    methods: dict[str, str], period: int, spike: float, rest: float, steps: int, points: int
) -> dict[str, Any]:
    """x in [-1, 1] from 0 under gradients `spike` once in a period and `rest` otherwise.

    Over a period the gradients add up to spike + (period - 1) rest > 0, so x = -1 is the minimum.
    """
    paths: dict[str, Any] = {}
    shown = np.unique(np.geomspace(1, steps, points).astype(int)) - 1
    for label, text in methods.items():
        transform = built(optimizers.parse(text), steps=steps).transform

        def step(carry: Any, t: Any, transform: Any = transform) -> Any:
            x, state = carry
            g = jnp.where(t % period == 0, spike, rest) + 0.0 * x
            updates, state = transform.update(g, state, x)
            x = jnp.clip(x + updates, -1, 1)
            return (x, state), x

        first = jnp.zeros(1)
        path = np.asarray(jax.lax.scan(step, (first, transform.init(first)), jnp.arange(steps))[1])[:, 0]
        paths[label] = {"end": float(path[-steps // 10 :].mean()), "path": path[shown].tolist()}
    return {"methods": paths, "steps": (shown + 1).tolist(), "mean": (spike + (period - 1) * rest) / period}
