"""ESGD-M step by step: cadence, warmup, momentum, decay; the estimate and the cost of its products."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench.optimizers.esgd.jax import due, esgd, signs
from optbench.rules.optax import KeyNoise

from . import apart, interleaved
from .training import Training, streamed

FIRST, ONE = jnp.array([2.0]), jnp.array([1.0])


def updates_of(gradients: np.ndarray, params: Any = None, **options: Any) -> np.ndarray:
    """The update of each step for one parameter, whose every Hessian-vector product is 1."""
    optimizer = esgd(lr=1.0, eps=0.0, **options)
    return streamed(optimizer, gradients[:, None], params, Hvp=ONE)[1][:, 0]


def steps_of_products(steps: int) -> dict[str, Any]:
    """The steps, from 1, with a Hessian-vector product by default."""
    return {"steps": (np.flatnonzero(jax.vmap(due)(jnp.arange(steps))) + 1).tolist(), "of": steps}


def warmup(marks: list[int]) -> dict[str, Any]:
    """The size of a step over the learning rate, with a constant gradient and no momentum."""
    updates = -updates_of(np.ones(max(marks)), betas=(0.0, 0.999))
    return {"share": {str(mark): float(updates[mark - 1]) for mark in marks}}


def momentum(steps: int, seed: int) -> dict[str, Any]:
    """The distance of each preset from its momentum in NumPy, relative to the largest update."""
    g, t = np.random.default_rng(seed).standard_normal(steps), np.arange(1, steps + 1)

    def gap(expected: np.ndarray, **options: Any) -> float:
        return apart(-updates_of(g, lr_warmup=0.0, **options), expected)

    def average(b: float) -> np.ndarray:
        means = itertools.accumulate(g, lambda m, x: b * m + (1 - b) * x, initial=0.0)
        return np.array([*means][1:])

    b, slow = 0.9, 0.999
    return {
        # Nesterov in its usual form: v = b v + g, step g + b v; an average has the factor 1 - b.
        "default is nesterov": gap((1 - b) * (g + b * average(b) / (1 - b)) / (1 - b ** (t + 1))),
        "nu=1 is plain momentum": gap(average(b) / (1 - b**t), nu=1.0),
        "qhm": gap((0.3 * g + 0.7 * average(slow)) / (1 - 0.7 * slow**t), betas=(slow, slow), nu=0.7),
    }


def decay(steps: int, weight_decay: float) -> dict[str, Any]:
    """The decay of a parameter without gradient, over weight_decay times the learning rate of each step."""
    shrunk = -updates_of(np.zeros(steps), params=FIRST, weight_decay=weight_decay) / float(FIRST[0])
    ratio = shrunk / (weight_decay * (1 - 0.99 ** np.arange(1, steps + 1)))
    return {"ratio_low": float(ratio.min()), "ratio_high": float(ratio.max())}


def curvature(size: int, products: int, seed: int) -> dict[str, Any]:
    """Relative distance of the limit of sqrt(D) on a quadratic to three diagonals that it could be."""
    root = np.random.default_rng(seed).standard_normal((size, size))
    hessian = (root + root.T) / 2
    values, vectors = np.linalg.eigh(hessian)
    candidates = {
        "absolute diagonal": np.abs(np.diag(hessian)),
        "diagonal of |H|": np.diag(vectors * np.abs(values) @ vectors.T),
        "row norms": np.linalg.norm(hessian, axis=1),
    }
    with jax.enable_x64(True):
        full = estimate(jnp.asarray(hessian), products, 1 - 1 / products)
        diagonal = estimate(jnp.diag(jnp.diag(jnp.asarray(hessian))), products, 0.999)
    return {
        "apart": {name: apart(full, want) for name, want in candidates.items()},
        "diagonal": apart(diagonal, candidates["absolute diagonal"]),
    }


def estimate(hessian: jax.Array, products: int, b2: float) -> Any:
    """sqrt of the bias-corrected D."""
    optimizer, zeros = esgd(betas=(0.9, b2), d_warmup=products), jnp.zeros(len(hessian))

    def step(state: Any, t: Any) -> Any:
        product = hessian @ signs(KeyNoise.seeded(0), t, zeros)
        return optimizer.update(zeros, state, Hvp=product, update_preconditioner=jnp.asarray(True))[1], None

    state: Any = jax.lax.scan(step, optimizer.init(zeros), jnp.arange(products))[0]
    return jnp.sqrt(state.exp_avg_d / (1 - b2**products))


def product_cost(problem: str, steps: int, rounds: int) -> dict[str, Any]:
    """CPU microseconds of a gradient, and of gradient and product in one pass, in JAX."""
    objective, first = Training(problem, 1, 1).batch()

    def loop(one: Any) -> Any:
        def body(t: Any, params: Any) -> Any:
            return jax.tree.map(lambda p, *rest: p - 1e-6 * sum(rest), params, *one(params)[1:])

        run = jax.jit(lambda n: jax.lax.fori_loop(0, n, body, first))
        return lambda n: jax.block_until_ready(run(n))

    both = loop(lambda p: objective.value_grad_hvp(p, first))
    return interleaved({"gradient": loop(objective.value_and_grad), "both": both}, steps, rounds)
