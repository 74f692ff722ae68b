"""What ESGD-M does at each step: cadence, warmup, momentum, decay, and what its products estimate and cost."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench.claims.programs.clock import interleaved
from optbench.claims.programs.training import Training
from optbench.optimizers.esgd.jax import due, esgd, signs
from optbench.rules.optax import KeyNoise

FIRST, ONE = jnp.array([2.0]), jnp.array([1.0])


def updates_of(
    gradients: np.ndarray, curvature: float = 1.0, params: Any = None, **options: Any
) -> np.ndarray:
    """The update of each step for one parameter, whose every Hessian-vector product has the same size."""
    optimizer: Any = esgd(lr=1.0, eps=0.0, **options)

    def step(state: Any, g: jax.Array) -> Any:
        updates, state = optimizer.update(g[None], state, params, Hvp=curvature * ONE)
        return state, updates[0]

    with jax.enable_x64(True):
        first = jnp.zeros(1)
        return np.asarray(jax.lax.scan(step, optimizer.init(first), jnp.asarray(gradients))[1])


def steps_of_products(steps: int) -> dict[str, Any]:
    """The steps, from 1, on which the default asks for a Hessian-vector product."""
    asked = np.flatnonzero(np.asarray(jax.vmap(due)(jnp.arange(steps)))) + 1
    return {"steps": asked.tolist(), "of": steps}


def warmup(marks: list[int]) -> dict[str, Any]:
    """The share of the learning rate that a step has, with a constant gradient and no momentum."""
    updates = -updates_of(np.ones(max(marks)), betas=(0.0, 0.999))
    return {"share": {str(mark): float(updates[mark - 1]) for mark in marks}, "curve": updates[::5].tolist()}


def momentum(steps: int, seed: int) -> dict[str, Any]:
    """How far each preset is from its momentum as NumPy computes it: relative to the largest update."""
    g = np.random.default_rng(seed).standard_normal(steps)

    def gap(reference: Any, **options: Any) -> float:
        found = -updates_of(g, lr_warmup=0.0, **options)
        expected = reference(*options.get("betas", (0.9, 0.999)))
        return float(np.abs(found - expected).max() / np.abs(expected).max())

    def average(b: float) -> np.ndarray:
        m, found = 0.0, []
        for x in g:
            m = b * m + (1 - b) * x
            found.append(m)
        return np.array(found)

    t = np.arange(1, steps + 1)
    return {
        # Nesterov in its usual form: v = b v + g, step g + b v; an average has the factor 1 - b.
        "default is nesterov": gap(
            lambda b, _: (1 - b) * (g + b * average(b) / (1 - b)) / (1 - b ** (t + 1))
        ),
        "nu=1 is plain momentum": gap(lambda b, _: average(b) / (1 - b**t), nu=1.0),
        "qhm": gap(
            lambda b, _: (0.3 * g + 0.7 * average(b)) / (1 - 0.7 * b**t), betas=(0.999, 0.999), nu=0.7
        ),
    }


def decay(steps: int, weight_decay: float) -> dict[str, Any]:
    """What decay takes off a parameter without gradient, over weight_decay times the learning rate of each step."""
    shrunk = -updates_of(np.zeros(steps), params=FIRST, weight_decay=weight_decay) / float(FIRST[0])
    current = 1 - 0.99 ** np.arange(1, steps + 1)
    return {
        "ratio_low": float((shrunk / (weight_decay * current)).min()),
        "ratio_high": float((shrunk / (weight_decay * current)).max()),
    }


def curvature(size: int, products: int, seed: int) -> dict[str, Any]:
    """What sqrt(D) converges to on a quadratic: relative distance to three things it could be."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size))
    hessian = (root + root.T) / 2
    values, vectors = np.linalg.eigh(hessian)
    candidates = {
        "absolute diagonal": np.abs(np.diag(hessian)),
        "diagonal of |H|": np.diag(vectors * np.abs(values) @ vectors.T),
        "row norms": np.linalg.norm(hessian, axis=1),
    }
    with jax.enable_x64(True):
        found = estimate(jnp.asarray(hessian), products, 1 - 1 / products, 0)
    apart = {name: float(np.abs(found - want).max() / want.max()) for name, want in candidates.items()}
    with jax.enable_x64(True):
        diagonal = estimate(jnp.diag(jnp.diag(jnp.asarray(hessian))), products, 0.999, 0)
    want = candidates["absolute diagonal"]
    return {"apart": apart, "diagonal": float(np.abs(diagonal - want).max() / want.max())}


def estimate(hessian: jax.Array, products: int, b2: float, seed: Any) -> Any:
    """sqrt of the bias-corrected D after so many products."""
    optimizer = esgd(betas=(0.9, b2), d_warmup=products)
    zeros = jnp.zeros(len(hessian))

    def step(state: Any, t: Any) -> Any:
        vector = signs(KeyNoise.seeded(seed), t, zeros)
        _, state = optimizer.update(
            zeros, state, Hvp=hessian @ vector, update_preconditioner=jnp.asarray(True)
        )
        return state, None

    state: Any = jax.lax.scan(step, optimizer.init(zeros), jnp.arange(products))[0]
    return jnp.sqrt(state.exp_avg_d / (1 - b2**products))


def early(size: int, steps: int, seeds: int) -> dict[str, Any]:
    """The relative deviation over seeds of the estimate after so many steps, with the first products and without."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((size, size))
    hessian = jnp.asarray((root + root.T) / 2)
    found = {}
    for name, products in (
        ("d_warmup=20", int(steps_taken(steps, 20))),
        ("d_warmup=1", int(steps_taken(steps, 1))),
    ):
        values = np.asarray(
            jax.vmap(lambda seed, n=products: estimate(hessian, n, 0.999, seed))(jnp.arange(seeds))
        )
        found[name] = {
            "products": products,
            "deviation": float((values.std(axis=0) / values.mean(axis=0)).mean()),
        }
    return found


def steps_taken(steps: int, d_warmup: int) -> Any:
    """How many products the cadence has asked for."""
    return jnp.sum(due(jnp.arange(steps), 10, d_warmup))


def product_cost(problem: str, steps: int, rounds: int) -> dict[str, Any]:
    """CPU seconds of a gradient, and of gradient and product in one pass, in JAX."""
    objective, first = Training(problem, 1, 1).batch()

    def loop(one: Any) -> Any:
        def body(t: Any, params: Any) -> Any:
            return jax.tree.map(lambda p, *rest: p - 1e-6 * sum(rest), params, *one(params))

        run = jax.jit(lambda n: jax.lax.fori_loop(0, n, body, first))
        return lambda n: jax.block_until_ready(run(n))

    seconds = interleaved(
        {
            "gradient": loop(lambda p: objective.value_and_grad(p)[1:]),
            "both": loop(lambda p: objective.value_grad_hvp(p, first)[1:]),
        },
        steps,
        rounds,
    )
    return {name: 1e6 * value for name, value in seconds.items()}
