"""PSGD Kron written plainly, one einsum for each formula: the baseline of the fast one.

The arithmetic is that of psgd-jax 0.2.9 (one einsum applies all factors, one einsum for each Gram matrix, a
right-hand triangular solve for each factor, a norm bound with a branch for the longest row or column), written
from the formulas of `optbench.optimizers.kron`, without stacked layers, options or dtypes.
"""

import string

import jax
import jax.numpy as jnp

from optbench.rules.optax import probes

B1, RATE, DAMPING = 0.9, 0.1, 3.4526698e-4


def init(params):
    def factors(leaf):
        diagonal = leaf.ndim < 2
        return [jnp.ones(n) if diagonal or n == 1 else jnp.eye(n) for n in leaf.shape]

    zero = jnp.zeros((), jnp.int32)
    return {
        "count": zero,
        "counter": zero,
        "mu": jax.tree.map(jnp.zeros_like, params),
        "factors": {name: factors(leaf) for name, leaf in params.items()},
    }


def update(grads, state, probability, noise):
    """One step without learning rate: the preconditioned momentum and the new state."""
    t = state["count"] + 1
    mu = {name: (1 - B1) * g + B1 * state["mu"][name] for name, g in grads.items()}
    direction = {name: m / (1 - B1**t) for name, m in mu.items()}
    due = state["counter"] + 1 >= 1 / probability

    def fit(factors):
        balance_now = noise.uniform("balance_u", state["count"], jnp.float32) < 0.01
        factors = jax.lax.cond(balance_now, balanced, lambda qs: qs, factors)
        probe = probes(noise, state["count"], direction)
        return {name: fitted(qs, direction[name], probe[name]) for name, qs in factors.items()}

    factors = jax.lax.cond(due, fit, lambda qs: qs, state["factors"])
    updates = {name: clipped(preconditioned(factors[name], g)) for name, g in direction.items()}
    counter = jnp.where(due, 0, state["counter"] + 1)
    return updates, {"count": t, "counter": counter, "mu": mu, "factors": factors}


def balanced(factors):
    """The factors of each leaf get the same largest entry."""

    def one(qs):
        norms = [jnp.max(jnp.abs(q)) for q in qs]
        mean = jnp.prod(jnp.stack(norms)) ** (1 / len(qs))
        return [q * mean / norm for q, norm in zip(qs, norms, strict=True)]

    return {name: one(qs) if len(qs) > 1 else qs for name, qs in factors.items()}


def fitted(qs, g, v):
    """Q <- Q - lr tri(A A^T - B B^T) Q / |A A^T + B B^T| for each axis."""
    g = g + DAMPING * jnp.mean(jnp.abs(g)) * v
    small, capital = string.ascii_lowercase[: g.ndim], string.ascii_uppercase[: g.ndim]
    operands = [a if q.ndim < 2 else a + c for q, a, c in zip(qs, small, capital, strict=True)]
    inner = "".join(a if q.ndim < 2 else c for q, a, c in zip(qs, small, capital, strict=True))
    a = jnp.einsum(f"{','.join(operands)},{inner}->{small}", *qs, g)
    b = v
    for axis, q in enumerate(qs):
        last = jnp.moveaxis(b, axis, -1)
        if q.ndim < 2:
            last = last / q
        else:
            flat = last.reshape(-1, len(q))
            last = jax.lax.linalg.triangular_solve(q, flat, left_side=False, lower=False).reshape(last.shape)
        b = jnp.moveaxis(last, -1, axis)
    new = []
    for axis, q in enumerate(qs):
        other = small[:axis] + capital[axis] + small[axis + 1 :]
        gram = f"{small},{small if q.ndim < 2 else other}->{small[axis]}{'' if q.ndim < 2 else capital[axis]}"
        t1, t2 = jnp.einsum(gram, a, a), jnp.einsum(gram, b, b)
        tiny = jnp.finfo(q.dtype).tiny
        if q.ndim < 2:
            new.append(q - RATE * (t1 - t2) * q / (jnp.max(jnp.abs(t1 + t2)) + tiny))
        else:
            new.append(q - jnp.triu(RATE * (t1 - t2)) / (norm_bound(t1 + t2) + tiny) @ q)
    return new


def norm_bound(a):
    """A lower bound of the spectral norm from the longest row or column."""
    largest = jnp.max(jnp.abs(a))

    def bound(a):
        b = a / largest
        columns, rows = jnp.sum(b * b, axis=0), jnp.sum(b * b, axis=1)
        i, j = jnp.argmax(columns), jnp.argmax(rows)

        def by_column():
            x = b[:, i] @ b
            return largest * jnp.linalg.norm((x / jnp.linalg.norm(x)) @ b.T)

        def by_row():
            x = b @ b[j]
            return largest * jnp.linalg.norm(b.T @ (x / jnp.linalg.norm(x)))

        return jax.lax.cond(columns[i] > rows[j], by_column, by_row)

    return jax.lax.cond(largest > 0, bound, lambda a: largest, a)


def preconditioned(qs, g):
    """P G with P = Q^T Q along each axis, as one einsum."""
    small, capital = string.ascii_lowercase[: g.ndim], string.ascii_uppercase[: g.ndim]
    first, second, inner, outer = [], [], "", ""
    middle = string.ascii_lowercase[g.ndim : 2 * g.ndim]
    for q, a, m, c in zip(qs, small, middle, capital, strict=True):
        diagonal = q.ndim < 2
        first.append(a if diagonal else m + a)
        second.append(a if diagonal else m + c)
        inner += a if diagonal else c
        outer += a
    return jnp.einsum(f"{','.join(first)},{','.join(second)},{inner}->{outer}", *qs, *qs, g)


def clipped(u):
    """Root mean square at most 1.1."""
    return u / jnp.maximum(1.0, jnp.sqrt(jnp.mean(u * u)) / 1.1)
