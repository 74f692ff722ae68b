"""What the preconditioners converge to for gradients from a known distribution."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench.optimizers.affine.jax import scale_by_affine
from optbench.optimizers.kron.jax import scale_by_kron
from optbench.optimizers.kron.jax_factors import precondition


def matrix_fits(shape: list[int], steps: int, rates: list[float], seed: int) -> dict[str, Any]:
    """kron and affine on the same gradients A Z B with Z ~ N(0, I): how white they make them, how alike they are."""
    rng = np.random.default_rng(seed)
    left, right = (
        np.geomspace(0.5, 2, k) * (np.eye(k) + 0.5 * np.tril(rng.standard_normal((k, k)), -1)) for k in shape
    )
    covariance = np.kron(left @ left.T, right.T @ right)
    plain = np.eye(len(covariance)) * np.sqrt(len(covariance) / np.trace(covariance))
    a, b = (jnp.asarray(matrix, jnp.float32) for matrix in (left, right))

    def gradient(key: jax.Array) -> jax.Array:
        return a @ jax.random.normal(key, (*shape,)) @ b

    kron = fitted(lambda rate: scale_by_kron(0.0, 1.0, preconditioner_lr=rate), gradient, steps, rates, seed)
    affine = fitted(lambda rate: scale_by_affine(1.0, 0.0, precond_lr=rate), gradient, steps, rates, seed)
    sides = {
        "kron": kron["Qs_preconditioners"],
        "affine": [affine.factors[0][side] for side in ("left", "right")],
    }
    q = {name: np.kron(*(np.asarray(factor, float) for factor in factors)) for name, factors in sides.items()}
    p = {name: matrix.T @ matrix for name, matrix in q.items()}
    return {
        "apart": float(np.linalg.norm(p["kron"] - p["affine"]) / np.linalg.norm(p["affine"])),
        "whiteness": {name: whiteness(matrix, covariance) for name, matrix in p.items()},
        "before": whiteness(plain, covariance),
    }


def fitted(make: Any, gradient: Any, steps: int, rates: list[float], seed: int) -> Any:
    """The state after `steps` gradients at each step size of the fit, from coarse to fine."""
    key = jax.random.key(seed)

    @jax.jit
    def stage(state: Any, keys: jax.Array, rate: Any) -> Any:
        def step(state: Any, key: jax.Array) -> Any:
            return make(rate).update(gradient(key), state)[1], None

        return jax.lax.scan(step, state, keys)[0]

    state = make(rates[0]).init(gradient(key))
    for i, rate in enumerate(rates):
        state = stage(state, jax.random.split(jax.random.fold_in(key, i), steps), rate)
    return state


def whiteness(p: np.ndarray, covariance: np.ndarray) -> float:
    """The largest distance of an eigenvalue of E[(P g)(P g)^T] from 1, as a factor."""
    return float(np.exp(np.max(np.abs(np.log(np.linalg.eigvalsh(p @ covariance @ p.T))))))


def contraction(shape: list[int], seed: int) -> dict[str, float]:
    """Relative distance of P G from the product that contracts the first axis of each factor, and from the last."""
    rng = np.random.default_rng(seed)
    left, right = (np.triu(rng.standard_normal((k, k))) for k in shape)
    g = rng.standard_normal(shape)
    with jax.enable_x64(True):
        found = np.asarray(precondition([jnp.asarray(left), jnp.asarray(right)], jnp.asarray(g)))
    expected = {"first": left.T @ left @ g @ right.T @ right, "last": left @ left.T @ g @ right @ right.T}
    return {axis: float(np.linalg.norm(found - p) / np.linalg.norm(p)) for axis, p in expected.items()}
