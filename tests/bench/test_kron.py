"""Kron against the same arithmetic written plainly, one einsum for each formula."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optbench.optimizers.kron.jax import scale_by_kron
from optbench.rules.optax import KeyNoise
from tests.bench import plain_kron
from tests.bench.baselines import compiled
from tests.bench.clock import Contestant

TREES = {
    "transformer block, d = 256": {
        **{f"{name}.w": (256, 256) for name in ("query", "key", "value", "out")},
        "up.w": (1024, 256),
        "up.b": (1024,),
        "down.w": (256, 1024),
        "down.b": (256,),
    },
    "mlp 64-128-128-10": {
        "w0": (128, 64), "b0": (128,), "w1": (128, 128), "b1": (128,), "w2": (10, 128), "b2": (10,),
    },
    "convolution 3x3x64x64": {"kernel": (64, 64, 3, 3), "bias": (64,)},
}  # fmt: skip


def gradients(shapes):
    keys = jax.random.split(jax.random.key(3), len(shapes))
    return {
        name: jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def steps_of(which, shapes, probability, steps):
    """Steps in a compiled loop, each on gradients of its own: (gradients, seed) to (last updates, factors)."""

    def run(grads, seed):
        noise = KeyNoise.seeded(seed)
        if which == "ours":
            transform = scale_by_kron(preconditioner_update_probability=probability, noise=noise)
            init, update = transform.init, transform.update
        else:
            init = plain_kron.init
            update = functools.partial(plain_kron.update, probability=probability, noise=noise)

        def body(t, carry):
            _, state = carry
            return update(jax.tree.map(lambda g: g * (1 + 0.1 * jnp.sin(t)), grads), state)

        carry = jax.lax.fori_loop(0, steps, body, (grads, init(grads)))
        return carry[0], factors_of(carry[1])

    return run


def factors_of(state):
    return state.get("Qs_preconditioners", state.get("factors"))


def largest_difference(one, other):
    """Over all arrays, relative to the largest entry of each."""
    return max(
        float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


@pytest.mark.parametrize(
    ("tree", "probability", "least"),
    [
        ("transformer block, d = 256", 1.0, 1.3),
        ("transformer block, d = 256", 0.001, 1.5),
        ("mlp 64-128-128-10", 1.0, 0.95),
        ("mlp 64-128-128-10", 0.001, 0.95),
        ("convolution 3x3x64x64", 1.0, 0.95),
        ("convolution 3x3x64x64", 0.001, 0.95),
    ],
)
def test_kron(tree, probability, least, race, goals):
    grads, seed = gradients(TREES[tree]), jnp.int32(5)
    steps = 2 if "transformer" in tree else 20
    made = {}
    for which in ("ours", "plain"):
        call = compiled(steps_of(which, grads, probability, steps), grads, seed)
        made[which] = Contestant(call, steps)
    updates, factors = (
        largest_difference(a, b) for a, b in zip(made["ours"].call(), made["plain"].call(), strict=True)
    )
    assert updates < 1e-5
    assert factors < 1e-5
    timed = race(made)
    part = "fit and apply" if probability == 1 else "apply"
    goals.faster(f"kron, {tree}: {part}", timed, "plain", least, ours="ours")
