"""Lanes in JAX: cells that differ only in numbers run as lanes of one compiled program.

Three modes, and when they pay:

- `vmap`: lanes side by side in one vectorised step, for steps too small to fill the machine. Bits depend on
  the width, so it is fixed and groups are padded to it. With leaves of 2 to 8 numbers they depend on the
  place in the group too (LLVM ends loops over such strides with scalar steps, which round otherwise); a plan
  gives those to `map`. Leaves of the carry that no lane touches (step counters) stay unbatched, so that
  `lax.cond` on them remains a branch.
- `map`: lanes one after the other inside one program; each has the bits it has alone.
- `loop`: one jitted step called from Python, for what must not be inside a compiled loop (convolutions on CPU).

A chunk of steps is a `fori_loop` with a traced bound that writes into a buffer of fixed length: one compile
for every chunk length, and the same bits for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from optbench.core import Cell, Counts, Setting, Trace
from optbench.engines.lanes import BLOCK, Inputs, Keep, Observe, drive
from optbench.rules.optax import KeyNoise

WIDTH = 48
"""Lanes in one vmapped step: 40 or 45 lanes (8 or 9 learning rates, 5 seeds) fill one group, which takes a
quarter less time than two of 32 (quadratics) or as long (Rosenbrock); whole vectors on every machine."""


class JaxObjective:
    """This batch's loss as a function of the parameters."""

    def __init__(self, loss: Callable[[Any], jax.Array]):
        self.value = loss

    def value_and_grad(self, params: Any) -> tuple[Any, Any]:
        """The loss and its gradient."""
        return jax.value_and_grad(self.value)(params)

    def value_grad_hvp(self, params: Any, vector: Any) -> tuple[Any, Any, Any]:
        """Forward over reverse: one pass gives loss, gradient and H v, for less than three gradients."""
        (loss, grads), (_, hvp) = jax.jvp(jax.value_and_grad(self.value), (params,), (vector,))
        return loss, grads, hvp


class Lane:
    """One lane as pure functions; `shared` is the same for all lanes, `lane` is this one's row of the inputs."""

    def __init__(self, cell: Cell):
        self.optimizer, self.steps, self.twinned = cell.optimizer, cell.steps, cell.twin is not None
        self.loss, self.metrics = cell.task.jax()

    def rule(self, lane: Any, shared: Any) -> Any:
        """The optimizer's rule with this lane's numbers, noise and the schedule's table bound into it."""

        def factor(t: Any) -> jax.Array:
            return shared["factors"][t - shared["base"]]

        setting = Setting(factor, KeyNoise.seeded(lane["noise"]), self.steps)
        return self.optimizer.bind(lane["numbers"]).jax(setting)

    def init(self, lane: Any, shared: Any) -> Any:
        """The carry before the first step."""
        params = lane["params"]
        zero = jnp.zeros((), jnp.int32)
        return {
            "params": params,
            "state": self.rule(lane, shared).init(params),
            "counts": Counts(zero, zero, zero),
        }

    def step(self, carry: Any, lane: Any, shared: Any, t: Any) -> tuple[Any, Any]:
        """One step: the new carry and the loss before it."""
        index = t - shared["base"]
        draw = {name: table[lane["slot"], index] for name, table in shared["draws"].items()}
        objective = JaxObjective(lambda params: self.loss(params, shared["data"], draw))
        done = self.rule(lane, shared).step(carry["params"], carry["state"], objective, t)
        counts = Counts(
            *(a + jnp.asarray(b, jnp.int32) for a, b in zip(carry["counts"], done.counts, strict=True))
        )
        params = nudged(done.params, lane["twin"], t) if self.twinned else done.params
        return {"params": params, "state": done.state, "counts": counts}, done.loss

    def evaluate(self, carry: Any, lane: Any, shared: Any) -> dict[str, jax.Array]:
        """Every metric at the parameters that the rule says to evaluate."""
        params = self.rule(lane, shared).evaluated(carry["params"], carry["state"])
        return self.metrics(params, shared["data"])


def nudged(params: Any, twin: Any, t: Any) -> Any:
    """Each parameter times 1 +- one rounding, in directions that the twin draws; twin 0 is left alone."""
    noise = KeyNoise.seeded(twin)

    def one(name: str, leaf: Any) -> Any:
        size = jnp.where(twin > 0, jnp.finfo(leaf.dtype).eps, 0).astype(leaf.dtype)
        return leaf * (1 + size * jnp.sign(noise.normal(f"twin.{name}", t, leaf)))

    return {name: one(name, leaf) for name, leaf in params.items()}


def touched(lane: Lane, lanes: Any, shared: Any) -> list[bool]:
    """Which leaves of the carry differ between lanes, found by tracing two steps under vmap.

    An identity whose batching rule reports what reaches it batched; leaves that never do are counters that
    all lanes share, and batching them would turn every branch on them into a select.
    """
    seen: list[list[bool]] = []

    @custom_vmap
    def watch(leaves: list[Any]) -> list[Any]:
        return leaves

    @watch.def_vmap
    def _(size: int, batched: Any, leaves: Any) -> tuple[Any, Any]:
        seen.append(list(batched[0]))
        return leaves, batched[0]

    def trace(one: Any) -> Any:
        carry, structure = jax.tree.flatten(lane.init(one, shared))
        for t in range(2):
            carry = structure.unflatten(watch(carry))
            carry = jax.tree.leaves(lane.step(carry, one, shared, shared["base"] + t)[0])
        return watch(carry)

    jax.eval_shape(jax.vmap(trace), lanes)
    return [any(leaf) for leaf in zip(*seen, strict=True)]


class JaxBackend:
    """Advances a group of lanes in one of the three modes."""

    def __init__(self, inputs: Inputs, mode: str, device: Any):
        self.inputs, self.mode, self.device = inputs, mode, device
        self.lane = Lane(inputs.cell)
        self.dtype = inputs.cell.dtype
        self.block_index = -1
        self.numbers: dict[int, jax.Array] = {}
        self.facts: dict[str, Any] = {"mode": mode, "compile_seconds": 0.0, "compile_cpu_seconds": 0.0}
        self.data = self.put(inputs.cell.task.data())
        self.load(inputs)
        self.compile()

    def put(self, tree: Any) -> Any:
        """On the device, with floating-point numbers in the cell's dtype."""

        def one(array: np.ndarray) -> jax.Array:
            is_float = np.issubdtype(array.dtype, np.floating)
            return jax.device_put(array.astype(self.dtype) if is_float else array, self.device)

        return jax.tree.map(one, tree)

    def load(self, inputs: Inputs) -> None:
        """Take the inputs of another group of lanes of the same program."""
        self.inputs, self.block_index = inputs, -1
        self.count = len(inputs.cells)
        lanes = inputs.lane_arrays()
        if self.mode == "vmap":
            fill = np.resize(np.arange(self.count), WIDTH)
            lanes = jax.tree.map(lambda array: array[fill], lanes)
        self.lanes = self.put(lanes)
        self.shared = self.inputs_of(0)

    def inputs_of(self, t: int) -> dict[str, Any]:
        """The shared inputs of the block that holds step t."""
        index = t // BLOCK
        if index != self.block_index:
            self.block_index = index
            self.shared = {
                **self.put(self.inputs.block(index)),
                "base": self.put(np.int32(index * BLOCK)),
                "data": self.data,
            }
        return self.shared

    def prepare(self, start: int) -> None:
        """Put the inputs of the block that holds this step on the device, and wait for them."""
        if start // BLOCK != self.block_index:
            jax.block_until_ready(self.inputs_of(start))

    def number(self, value: int) -> jax.Array:
        """A step as a scalar on the device, kept: making one costs as much as many steps of a small task."""
        if value not in self.numbers:
            self.numbers[value] = jax.device_put(np.int32(value), self.device)
        return self.numbers[value]

    # The three programs, each over a flat carry.

    def compile(self) -> None:
        """Lower and compile init, chunk and evaluation ahead of time; the seconds are kept apart."""
        wall, cpu = time.perf_counter(), time.process_time()
        example = jax.tree.map(lambda array: array[0], self.lanes)
        carry = jax.eval_shape(self.lane.init, example, self.shared)
        self.structure = jax.tree.structure(carry)
        axes: list[int | None] = [0] * self.structure.num_leaves
        if self.mode == "vmap":
            axes = [0 if hit else None for hit in touched(self.lane, self.lanes, self.shared)]
        init, chunk, evaluate = PROGRAMS[self.mode](self.lane, self.structure, axes)
        self.first = jax.jit(init).lower(self.lanes, self.shared).compile()
        first = jax.eval_shape(init, self.lanes, self.shared)
        bound = jax.ShapeDtypeStruct((), jnp.int32)
        lowered = jax.jit(chunk, donate_argnums=0).lower(first, *self.chunk_example(bound))
        self.chunk = lowered.compile()
        self.evaluation = jax.jit(evaluate).lower(first, self.lanes, self.shared).compile()
        self.facts["compile_seconds"] = time.perf_counter() - wall
        self.facts["compile_cpu_seconds"] = time.process_time() - cpu
        self.facts |= memory_facts(self.chunk, carry)

    def chunk_example(self, bound: Any) -> tuple[Any, ...]:
        """The arguments of the chunk program after the carry."""
        return (
            (self.lanes, self.shared, bound)
            if self.mode == "loop"
            else (self.lanes, self.shared, bound, bound)
        )

    def start(self) -> None:
        """Make the first carry."""
        self.carry = self.first(self.lanes, self.inputs_of(0))

    def advance(self, start: int, stop: int) -> np.ndarray:
        """Run steps start <= t < stop; the losses are the one thing that crosses to the host."""
        shared = self.inputs_of(start)
        if self.mode == "loop":
            losses = []
            for t in range(start, stop):
                self.carry, loss = self.chunk(self.carry, self.lanes, shared, self.number(t))
                losses.append(loss)
            return np.asarray(jnp.stack(losses))[:, : self.count]
        self.carry, losses = self.chunk(self.carry, self.lanes, shared, self.number(start), self.number(stop))
        return np.asarray(losses)[: stop - start, : self.count]

    def evaluate(self) -> dict[str, np.ndarray]:
        """Every metric, [lanes]."""
        found = self.evaluation(self.carry, self.lanes, self.shared)
        return {name: np.asarray(values)[: self.count] for name, values in found.items()}

    def counts(self) -> Counts:
        """Gradients, Hessian-vector products and values so far, [lanes]."""
        counts = self.structure.unflatten(self.carry)["counts"]
        return Counts(
            *(np.full(self.count, c) if c.ndim == 0 else np.asarray(c)[: self.count] for c in counts)
        )

    def save(self) -> list[np.ndarray]:
        """The carry as arrays."""
        return [np.asarray(leaf) for leaf in self.carry]

    def restore(self, leaves: list[np.ndarray]) -> None:
        """Go on from a saved carry."""
        self.carry = [jax.device_put(leaf, self.device) for leaf in leaves]


def mapped(lane: Lane, structure: Any, axes: Any) -> tuple[Callable, Callable, Callable]:
    """One lane after the other, inside the program."""

    def init(lanes: Any, shared: Any) -> list[Any]:
        return jax.lax.map(lambda one: jax.tree.leaves(lane.init(one, shared)), lanes)

    def chunk(carry: list[Any], lanes: Any, shared: Any, start: Any, stop: Any) -> tuple[list[Any], Any]:
        def run(both: Any) -> Any:
            leaves, one = both

            def body(t: Any, state: Any) -> Any:
                leaves, losses = state
                carry, loss = lane.step(structure.unflatten(leaves), one, shared, t)
                return jax.tree.leaves(carry), write(losses, loss, t - start)

            buffer = jnp.zeros(BLOCK, loss_dtype(lane, one, shared))
            return jax.lax.fori_loop(start, stop, body, (leaves, buffer))

        carry, losses = jax.lax.map(run, (carry, lanes))
        return carry, losses.T

    def evaluate(carry: list[Any], lanes: Any, shared: Any) -> dict[str, Any]:
        return jax.lax.map(
            lambda both: lane.evaluate(structure.unflatten(both[0]), both[1], shared), (carry, lanes)
        )

    return init, chunk, evaluate


def vectorised(lane: Lane, structure: Any, axes: list[int | None]) -> tuple[Callable, Callable, Callable]:
    """All lanes in one step; leaves that no lane touches stay unbatched."""

    def init(lanes: Any, shared: Any) -> list[Any]:
        return jax.vmap(lambda one: jax.tree.leaves(lane.init(one, shared)), out_axes=axes)(lanes)

    def chunk(carry: list[Any], lanes: Any, shared: Any, start: Any, stop: Any) -> tuple[list[Any], Any]:
        def one_step(leaves: list[Any], one: Any, t: Any) -> Any:
            carry, loss = lane.step(structure.unflatten(leaves), one, shared, t)
            return jax.tree.leaves(carry), loss

        step = jax.vmap(one_step, in_axes=(axes, 0, None), out_axes=(axes, 0))

        def body(t: Any, state: Any) -> Any:
            leaves, losses = state
            leaves, loss = step(leaves, lanes, t)
            return leaves, write(losses, loss, t - start)

        example = jax.tree.map(lambda array: array[0], lanes)
        buffer = jnp.zeros((BLOCK, len(lanes["slot"])), loss_dtype(lane, example, shared))
        return jax.lax.fori_loop(start, stop, body, (carry, buffer))

    def evaluate(carry: list[Any], lanes: Any, shared: Any) -> dict[str, Any]:
        return jax.vmap(
            lambda leaves, one: lane.evaluate(structure.unflatten(leaves), one, shared), in_axes=(axes, 0)
        )(carry, lanes)

    return init, chunk, evaluate


def stepped(lane: Lane, structure: Any, axes: Any) -> tuple[Callable, Callable, Callable]:
    """One step of all lanes, unrolled; called from Python for each step."""

    def each(function: Callable, *trees: Any) -> Any:
        count = len(jax.tree.leaves(trees[0])[0])
        rows = [function(*jax.tree.map(lambda array, i=i: array[i], trees)) for i in range(count)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)

    def init(lanes: Any, shared: Any) -> list[Any]:
        return each(lambda one: jax.tree.leaves(lane.init(one, shared)), lanes)

    def chunk(carry: list[Any], lanes: Any, shared: Any, t: Any) -> tuple[list[Any], Any]:
        def one_step(leaves: list[Any], one: Any) -> Any:
            new, loss = lane.step(structure.unflatten(leaves), one, shared, t)
            return jax.tree.leaves(new), loss

        return each(one_step, carry, lanes)

    def evaluate(carry: list[Any], lanes: Any, shared: Any) -> dict[str, Any]:
        return each(lambda leaves, one: lane.evaluate(structure.unflatten(leaves), one, shared), carry, lanes)

    return init, chunk, evaluate


PROGRAMS = {"map": mapped, "vmap": vectorised, "loop": stepped}


def write(losses: jax.Array, loss: jax.Array, row: Any) -> jax.Array:
    """Put the losses of one step into the buffer.

    `losses.at[row].set(loss)` would be a scatter, which costs more than a step of a small task.
    """
    return jax.lax.dynamic_update_index_in_dim(losses, loss, row, 0)


def loss_dtype(lane: Lane, one: Any, shared: Any) -> Any:
    """The dtype of a loss, without computing one."""
    carry = jax.eval_shape(lane.init, one, shared)
    return jax.eval_shape(lambda c: lane.step(c, one, shared, shared["base"])[1], carry).dtype


def memory_facts(chunk: Any, carry: Any) -> dict[str, Any]:
    """Bytes and counts that a record carries, from the compiled program and one lane's carry."""

    def bytes_of(tree: Any) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    found = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(carry["params"])),
        "parameter_bytes": bytes_of(carry["params"]),
        "state_bytes": bytes_of(carry["state"]),
    }
    analysis = chunk.memory_analysis()
    if analysis is not None:
        found["program_bytes"] = (
            analysis.temp_size_in_bytes + analysis.argument_size_in_bytes + analysis.output_size_in_bytes
        )
    return found


def run(
    cells: Sequence[Cell],
    mode: str,
    device: str = "cpu",
    observe: Observe = lambda event, facts: None,
    keep: Callable[[int], Keep | None] = lambda group: None,
) -> list[Trace]:
    """Run cells that share a program; returns their traces in the same order."""
    size = WIDTH if mode == "vmap" else len(cells)
    groups = [cells[i : i + size] for i in range(0, len(cells), size)]
    traces: list[Trace] = []
    chosen = jax.devices(device)[0]
    with jax.enable_x64(cells[0].dtype == "float64"), jax.default_device(chosen):
        backend: JaxBackend | None = None
        for number, group in enumerate(groups):
            inputs = Inputs.of(group)
            if backend is None:
                backend = JaxBackend(inputs, mode, chosen)
                observe("compiled", backend.facts)
            else:
                backend.load(inputs)
            traces += drive(inputs, backend, observe, keep(number))
    return traces


def device_facts(device: str) -> dict[str, Any]:
    """What kind of device programs run on."""
    found = jax.devices(device)[0]
    return {
        "device": str(found),
        "device_kind": found.device_kind,
        "platform_version": found.client.platform_version,
    }
