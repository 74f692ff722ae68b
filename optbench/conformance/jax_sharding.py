"""Arrays sharded over eight devices, as a mesh of 8 and of 4 x 2: the path of one device, less state on each."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from optbench.conformance import assume, problem
from optbench.conformance.jax import Subject, total
from optbench.conformance.problem import Points, Shapes, apart, batches, first, signs
from optbench.optimizer import Optimizer
from optbench.optimizers.kron import Kron, Shaping
from optbench.optimizers.kron.jax_sharding import kron_partition_specs

SHARDED: Shapes = {"a": (1, 4), "b": (8,), "t": (3, 2, 2), "w": (16, 8)}
"""What no number of devices divides stays whole on each, as users have it."""
STEPS = 5
ROUNDING = 2.0**-52
COLLECTIVES = ["all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter"]


class Path:
    """The steps of an optimizer on a tree, in float64; on a mesh its state keeps the sharding that it starts with."""

    def __init__(self, subject: Subject, shape: tuple[int, ...], axes: tuple[str, ...]):
        self.rule = subject.rule()
        self.rows, params = jax.tree.map(jnp.asarray, (batches(SHARDED), first(SHARDED)))
        mesh = Mesh(np.array(jax.devices()[: math.prod(shape)]).reshape(shape), axes)
        specs = {
            name: PartitionSpec(*axes[: p.ndim]) if p.shape[0] % 8 == 0 else PartitionSpec()
            for name, p in params.items()
        }
        self.params = jax.device_put(params, {k: NamedSharding(mesh, spec) for k, spec in specs.items()})
        self.state = laid_out(subject.optimizer, self.rule.init(self.params), self.params, specs, mesh)
        shardings = jax.tree.map(lambda x: x.sharding, (self.params, self.state))
        self.compiled = jax.jit(self.step, out_shardings=shardings)

    def step(self, params: Any, state: Any, t: Any) -> Any:
        done = self.rule.step(params, state, total(self.rows, t), t)
        return done.params, done.state

    def go(
        self, nudged: bool = False, steps: range = range(STEPS), at: Any = None
    ) -> tuple[list[Points], Any]:
        """The parameters after each step, and the last of all; nudged: by 1 +- 2^-52 at the start and after each."""
        (params, state), path = (self.params, self.state) if at is None else at, []

        def nudge(params: Any, t: int) -> Any:
            return {k: p * (1 + ROUNDING * signs(k, t, p.shape)) for k, p in params.items()}

        if nudged:  # an eigenbasis is made of a first gradient, and rounding chooses part of it
            params = nudge(params, -1)
        for t in steps:
            params, state = self.compiled(params, state, t)
            params = nudge(params, t) if nudged else params
            path.append({name: np.asarray(p) for name, p in params.items()})
        return path, (params, state)

    def collectives(self) -> Counter[str]:
        """How often each is in the program of a step."""
        text = self.compiled.lower(self.params, self.state, 0).compile().as_text() or ""
        return Counter(re.findall(rf" ({'|'.join(COLLECTIVES)})(?:-start)?\(", text))


def laid_out(optimizer: Optimizer, state: Any, params: Any, specs: Any, mesh: Mesh) -> Any:
    """A first state on a mesh: what is sharded stays, Kron's factors go by its specs, the rest by rows where it can."""

    def put(x: Any, spec: Any = None) -> Any:
        if isinstance(x.sharding, NamedSharding):
            return x
        rows = PartitionSpec(mesh.axis_names[0]) if x.ndim and x.shape[0] % 8 == 0 else PartitionSpec()
        return jax.device_put(x, NamedSharding(mesh, rows if spec is None else spec))

    def part(x: Any) -> Any:
        if not isinstance(optimizer, Kron) or not is_kron(x):
            return jax.tree.map(put, x)
        shaping = {name: getattr(optimizer, name) for name in Shaping._fields}
        factors = kron_partition_specs(params, specs, mesh, **shaping)
        own = {"Qs_preconditioners": jax.tree.map(put, x["Qs_preconditioners"], factors)}
        return {**jax.tree.map(put, x), **own}

    def is_kron(x: Any) -> bool:
        return isinstance(x, dict) and "Qs_preconditioners" in x

    return jax.tree.map(part, state, is_leaf=is_kron)


def path_of(subject: Subject, shape: tuple[int, ...] = (1,), axes: tuple[str, ...] = ("fsdp",)) -> Path:
    """Compiled once for each mesh."""
    assume(len(jax.devices()) >= 8, f"JAX has {len(jax.devices())} devices here, and not 8.")
    return subject.once(f"path {shape}", lambda: Path(subject, shape, axes))


def held(tree: Any) -> int:
    """The bytes on the first device."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    shards = [shard for leaf in arrays for shard in leaf.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == jax.devices()[0])


def replicas_differ(tree: Any) -> str:
    """The path of an array of which two devices have the same part with other bits."""
    for name, leaf in jax.tree.leaves_with_path(tree):
        parts: dict[str, bytes] = {}
        for shard in leaf.addressable_shards if isinstance(leaf, jax.Array) else ():
            bits = np.asarray(shard.data).tobytes()
            if parts.setdefault(str(shard.index), bits) != bits:
                return jax.tree_util.keystr(name)
    return ""


def on(subject: Subject, shape: tuple[int, ...], axes: tuple[str, ...]) -> str:
    with jax.enable_x64(True):
        one, path = path_of(subject), path_of(subject, shape, axes)
        ones, twin = subject.once("sharding", lambda: (one.go(), one.go(nudged=True)[0]))
        alone, (_, whole) = ones
        found, last = path.go()
        counts = path.collectives()
    where = f"On a mesh of {' x '.join(map(str, shape))}"
    growths = itertools.accumulate((max(gap, 1e-16) for gap in map(apart, alone, twin)), max)
    problem.as_alone(where, "device", alone, found, growths, coupled=True)
    differs = replicas_differ(last)
    assert not differs, f"{where} two devices have other bits of the same part of {differs}."
    before, after = held(whole), held(last[1])
    less = before < 256 or after < before
    assert less, f"{where} each device holds {after} bytes of state, as one alone does."
    said = ", ".join(f"{n} {op}" for op, n in sorted(counts.items())) or "no collectives"
    return f"{where} it goes as on one; {after} of {before} bytes of state on each; {said} in a step."


check_mesh_8 = functools.partial(on, shape=(8,), axes=("fsdp",))
check_mesh_4x2 = functools.partial(on, shape=(4, 2), axes=("fsdp", "tensor"))
