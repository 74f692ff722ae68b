"""Kron on a mesh of 8 host devices: the sharded trace equals the unsharded one."""

import os

import pytest
from jax.sharding import PartitionSpec as P

from tests.process import python

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from optbench.optimizers.kron.jax import scale_by_kron
from optbench.optimizers.kron.jax_sharding import kron_partition_specs

jax.config.update("jax_enable_x64", True)
mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("fsdp", "tensor"))
rng = np.random.default_rng(0)
params = {"W": jnp.asarray(rng.standard_normal((8, 4))), "b": jnp.asarray(rng.standard_normal(4))}
grads = [jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape)), params) for _ in range(4)]
rule = scale_by_kron(preconditioner_update_probability=0.5)

def run(params, state, grads, update):
    path = []
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
        path.append(jax.tree.map(np.asarray, (params, state)))
    return path, state

plain, _ = run(params, rule.init(params), grads, jax.jit(rule.update))
specs = {"W": P("fsdp", "tensor"), "b": P("tensor")}
of_state = {"count": P(), "mu": specs, "update_counter": P(),
            "Qs_preconditioners": kron_partition_specs(params, specs, mesh)}
place = lambda tree: jax.tree.map(lambda s: NamedSharding(mesh, s), tree, is_leaf=lambda x: isinstance(x, P))
put = lambda tree, specs: jax.device_put(tree, place(specs))
update = jax.jit(rule.update, out_shardings=(place(specs), place(of_state)))
sharded, state = run(put(params, specs), put(rule.init(params), of_state), [put(g, specs) for g in grads], update)
for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(sharded), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)
first, second = state["Qs_preconditioners"]["W"]
assert first.sharding.spec == P("fsdp", "tensor") and first.addressable_shards[0].data.shape == (2, 4)
assert second.sharding.spec == P("tensor", "fsdp") and second.addressable_shards[0].data.shape == (2, 1)
print("equal")
"""


@pytest.mark.slow
def test_on_eight_devices_the_sharded_trace_equals_the_unsharded():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    done = python("-c", PROGRAM, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


def test_factors_are_sharded_as_their_gradients_contract():
    import jax

    from optbench.optimizers.kron.jax_sharding import kron_partition_specs

    params = {
        name: jax.ShapeDtypeStruct(shape, "float32")
        for name, shape in {"L": (3, 8, 4), "W": (8, 4), "b": (4,), "f": (8, 4), "s": ()}.items()
    }
    specs = {
        "L": P(None, "fsdp", "tensor"),
        "W": P("fsdp", "tensor"),
        "b": P("tensor"),
        "f": P("fsdp"),
        "s": None,
    }
    stacks = {"L": True, "W": False, "b": False, "f": False, "s": False}
    assert kron_partition_specs(params, specs, scanned_layers=stacks) == {
        "L": [P(None, "fsdp", "tensor"), P(None, "tensor", "fsdp")],
        "W": [P("fsdp", "tensor"), P("tensor", "fsdp")],
        "b": [P()],
        "f": [P(None, "fsdp"), P(None, "fsdp")],
        "s": [P()],
    }
    assert kron_partition_specs(params, specs, memory_save_mode="all_diag")["W"] == [P(), P()]
