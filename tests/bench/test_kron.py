"""Kron against the same arithmetic written plainly, one einsum for each formula."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optbench.optimizers.kron.jax import scale_by_kron
from optbench.optimizers.kron.jax_factors import precondition
from optbench.rules.optax import KeyNoise
from tests.bench import plain_kron
from tests.bench.baselines import compiled, engine, grid

BLOCK = {
    **{name: (256, 256) for name in ("query", "key", "value", "out")},
    "up": (1024, 256),
    "up_bias": (1024,),
    "down": (256, 1024),
    "down_bias": (256,),
}
MLP = {"w0": (128, 64), "b0": (128,), "w1": (128, 128), "b1": (128,), "w2": (10, 128), "b2": (10,)}
CONVOLUTION = {"kernel": (3, 3, 64, 64), "bias": (64,)}


def gradients(shapes):
    keys = jax.random.split(jax.random.key(3), len(shapes))
    return {
        name: jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def steps_of(which, steps):
    """Steps in a compiled loop, as the engine runs them: (gradients, seed) to (last updates, factors)."""

    def run(grads, seed):
        noise = KeyNoise.seeded(seed)
        if which == "ours":
            transform = scale_by_kron(preconditioner_update_probability=1, noise=noise)
            init, update = transform.init, transform.update
        else:
            init = plain_kron.init
            update = functools.partial(plain_kron.update, probability=1, noise=noise)

        def body(t, carry):
            _, state = carry
            return update(jax.tree.map(lambda g: g * (1 + 0.1 * jnp.sin(t)), grads), state)

        updates, state = jax.lax.fori_loop(0, steps, body, (grads, init(grads)))
        return updates, state["factors" if which == "plain" else "Qs_preconditioners"]

    return run


def largest_difference(one, other):
    """Over all arrays, relative to the largest entry of each."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(np.max(np.abs(a - b)) / np.max(np.abs(b))) for a, b in pairs)


def applications_of(which, steps):
    """The preconditioner alone, some times in a compiled loop: (gradients, factors) to the last updates."""
    apply = {"ours": precondition, "plain": plain_kron.preconditioned}[which]

    def run(grads, factors):
        def body(t, _):
            # Both change with the step: else XLA takes products of factors out of the loop.
            scale = 1 + 0.1 * jnp.sin(t)
            return {name: apply([q * scale for q in factors[name]], g * scale) for name, g in grads.items()}

        return jax.lax.fori_loop(0, steps, body, grads)

    return run


@pytest.mark.parametrize(
    ("name", "shapes", "part", "least"),
    [
        ("block of d=256", BLOCK, "fit and apply", 1.3),
        ("block of d=256", BLOCK, "apply", 1.5),
        ("mlp", MLP, "fit and apply", 0.95),
        ("mlp", MLP, "apply", 0.95),
        ("conv 3x3x64x64", CONVOLUTION, "fit and apply", 0.95),
        ("conv 3x3x64x64", CONVOLUTION, "apply", 0.95),
    ],
)
def test_kron(name, shapes, part, least, race, goals):
    grads, seed, steps = gradients(shapes), jnp.int32(5), 1 if shapes is BLOCK else 10
    made = {which: compiled(steps_of(which, steps), grads, seed) for which in ("ours", "plain")}
    if part == "apply":
        factors = made["plain"].call()[1]
        made = {which: compiled(applications_of(which, steps), grads, factors) for which in made}
    assert largest_difference(*(contestant.call() for contestant in made.values())) < 1e-5
    timed = race({which: contestant._replace(work=steps) for which, contestant in made.items()})
    goals.faster(f"kron, {name}: {part}", timed, "plain", least)


@pytest.mark.parametrize("task", ["quadratic_100", "mlp"])
def test_a_fit_that_is_not_due_costs_nothing(task, race, goals):
    """Lanes share the counter, so the branch stays one: ten steps with a fit cost one fit, not ten."""
    made = {}
    for name, probability in (("tenth", 0.1), ("never", 1e-5), ("always", 1)):
        optimizer = f"kron[preconditioner_update_probability={probability}]"
        made[name] = engine(grid(task, optimizer, rates=2, steps=100))
    found = race(made)
    tenth, never, always = map(found.best, made)
    goals.at_most(f"kron, {task}: fits, 1 in 10 due", (tenth - never) / (always - never), 0.2, "")
