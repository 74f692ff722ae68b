"""SOAP, Shampoo and Muon against the same equations written plainly for matrices, and against public versions.

In PyTorch against heavyball's eager steps, where it is installed (it is no dependency).
"""

import jax
import jax.numpy as jnp
import optax
import pytest
import torch

from optbench.optimizers.standard import jax as ours
from optbench.optimizers.standard import torch as ours_in_torch
from tests.bench.baselines import compiled
from tests.bench.clock import Contestant
from tests.bench.test_kron import gradients, largest_difference

BLOCK = {
    **{name: (128, 128) for name in ("query", "key", "value", "out")},
    "up": (512, 128),
    "down": (128, 512),
}
STEPS = 20
B1, B2, EVERY = 0.95, 0.95, 10


def ema(mean, x, decay):
    return decay * mean + (1 - decay) * x


def plain_soap(g, s, t):
    """One matrix: Adam in the eigenbases of both factors, a QR every ten steps."""

    def first(s):
        factors = ema(s["L"], g @ g.T, B2), ema(s["R"], g.T @ g, B2)
        bases = (jnp.flip(jnp.linalg.eigh(each)[1], 1) for each in factors)
        return jnp.zeros_like(g), {**s, **dict(zip("LRPQ", (*factors, *bases), strict=True))}

    def later(s):
        P, Q, n = s["P"], s["Q"], t - 1
        h = P.T @ g @ Q
        m, v = ema(s["m"], h, B1), ema(s["v"], h * h, B2)
        u = P @ (m / (jnp.sqrt(v) + 1e-8)) @ Q.T * jnp.sqrt(1 - B2**n) / (1 - B1**n)
        L, R = ema(s["L"], g @ g.T, B2), ema(s["R"], g.T @ g, B2)

        def turned():
            rows, columns = jnp.argsort(-(P * (L @ P)).sum(0)), jnp.argsort(-(Q * (R @ Q)).sum(0))
            p, q = jnp.linalg.qr(L @ P[:, rows])[0], jnp.linalg.qr(R @ Q[:, columns])[0]
            return p, q, p.T @ (P @ m @ Q.T) @ q, v[rows][:, columns]

        P, Q, m, v = jax.lax.cond(n % EVERY == 0, turned, lambda: (P, Q, m, v))
        return -0.003 * u, {"m": m, "v": v, "L": L, "R": R, "P": P, "Q": Q}

    return jax.lax.cond(t == 1, first, later, s)


def plain_shampoo(g, s, t):
    """One matrix: inverse fourth roots every ten steps, as long as Adam's step."""
    b1, b2, eps = 0.9, 0.999, 1e-8
    L, R, V = ema(s["L"], g @ g.T, b2), ema(s["R"], g.T @ g, b2), ema(s["v"], g * g, b2)

    def root(matrix):
        values, vectors = jnp.linalg.eigh(matrix / (1 - b2**t) + eps * jnp.eye(len(matrix)))
        values = jnp.maximum(values + jnp.maximum(eps - values.min(), 0), eps)
        return (vectors * values**-0.25) @ vectors.T

    P, Q = jax.lax.cond(t % EVERY == 0, lambda: (root(L), root(R)), lambda: (s["P"], s["Q"]))
    m = ema(s["m"], g, b1)
    d = ema(s["m"], g, b1) / (1 - b1**t)
    own, u = d / (jnp.sqrt(V / (1 - b2**t)) + eps), P @ d @ Q
    scaled = jnp.linalg.norm(own) / (jnp.linalg.norm(u) + 1e-16) * u
    return -0.001 * jnp.where(t < EVERY, own, scaled), {"m": m, "v": V, "L": L, "R": R, "P": P, "Q": Q}


def start(p):
    left, right = jnp.eye(p.shape[0]), jnp.eye(p.shape[1])
    zeros = {"m": jnp.zeros_like(p), "v": jnp.zeros_like(p), "L": 0 * left, "R": 0 * right}
    return zeros | {"P": left, "Q": right}


def steps_of(init, update):
    """Steps in a compiled loop: gradients to the last updates."""

    def run(grads):
        def body(i, carry):
            moved = jax.tree.map(lambda g: g * (1 + 0.1 * jnp.sin(i) * jnp.cos(g + i)), grads)
            return update(moved, carry[1], i + 1)

        return jax.lax.fori_loop(0, STEPS, body, (grads, init(grads)))[0]

    return run


def of_each(step):
    def update(grads, states, t):
        found = {name: step(g, states[name], t.astype(g.dtype)) for name, g in grads.items()}
        return {name: u for name, (u, _) in found.items()}, {name: s for name, (_, s) in found.items()}

    return steps_of(lambda params: {name: start(p) for name, p in params.items()}, update)


def of_optax(transform):
    return steps_of(transform.init, lambda grads, state, t: transform.update(grads, state, grads))


@pytest.mark.parametrize(
    ("name", "own", "other"),
    [
        ("soap", ours.soap(0.003, weight_decay=0.0), of_each(plain_soap)),
        ("shampoo", ours.shampoo(0.001), of_each(plain_shampoo)),
        ("muon", ours.muon(0.02), of_optax(optax.contrib.muon(0.02, ns_steps=5))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_step_in_jax(name, own, other, race, goals):
    grads = gradients(BLOCK)
    made = {"ours": compiled(of_optax(own), grads), "plain": compiled(other, grads)}
    if name != "muon":  # optax's scales otherwise
        assert largest_difference(*(contestant.call() for contestant in made.values())) < 1e-2
    timed = race({which: contestant._replace(work=STEPS) for which, contestant in made.items()})
    goals.faster(f"{name} in JAX, block of d=128", timed, "plain", 1 / 1.1)


@pytest.mark.parametrize("name", ["SOAP", "Muon"])
def test_a_step_in_torch(name, race, goals):
    heavyball = pytest.importorskip("heavyball", reason="heavyball is not installed")
    torch.set_num_threads(1)
    heavyball.utils.compile_mode = None

    def stepping(make):
        params = [torch.nn.Parameter(torch.randn(shape)) for shape in BLOCK.values()]
        optimizer = make(params)

        def call():
            for _ in range(STEPS):
                for param in params:
                    param.grad = torch.randn(param.shape)
                optimizer.step()

        return Contestant(call, STEPS)

    timed = race({
        "ours": stepping(lambda params: getattr(ours_in_torch, name)(params, lr=0.003)),
        "heavyball": stepping(lambda params: getattr(heavyball, name)(params, lr=0.003)),
    })  # fmt: skip
    goals.faster(f"{name} in PyTorch, block of d=128", timed, "heavyball", 1 / 1.1)
