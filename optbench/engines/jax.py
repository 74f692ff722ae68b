"""Lanes in JAX: cells that differ only in numbers run as lanes of one compiled program.

Three modes, and when they pay:

- `vmap`: lanes side by side in one vectorised step, for steps too small to fill the machine. Bits depend on
  the width, so it is fixed and groups are padded to it. With leaves of 2 to 8 numbers they depend on the
  place in the group too (LLVM ends loops over such strides with scalar steps, which round otherwise); a plan
  gives those to `map`. Leaves of the carry that no lane touches (step counters) stay unbatched, so that
  `lax.cond` on them remains a branch.
- `map`: lanes one after the other inside one program; each has the bits it has alone.
- `loop`: one jitted step of one lane, called from Python without waiting for it, for what must not be inside a
  compiled loop (convolutions on CPU).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench.cell import Cell, Trace
from optbench.engines.jax_device import device_facts as device_facts
from optbench.engines.jax_device import devices, numbers, placed, product
from optbench.engines.jax_device import watch_memory as watch_memory
from optbench.engines.jax_program import PROGRAMS, Lane, touched
from optbench.engines.jax_trap import loop_facts
from optbench.engines.lanes import BLOCK, WIDTH, Inputs, Keep, Observe, Saves, drive
from optbench.engines.measured import peak_facts
from optbench.metrics import Metric
from optbench.protocol import Counts


class JaxBackend:
    """Advances a group of lanes inside one compiled program, in the mode `map` or `vmap`."""

    def __init__(
        self, inputs: Inputs, mode: str, device: Any, width: int = WIDTH, metrics: Sequence[Metric] = ()
    ):
        self.inputs, self.mode, self.device, self.width = inputs, mode, device, width
        self.lane = Lane(inputs.cell, metrics)
        self.dtype = inputs.cell.dtype
        self.block_index = -1
        self.numbers: dict[int, jax.Array] = {}
        self.facts: dict[str, Any] = {"mode": mode}
        if mode == "vmap":
            self.facts["width"] = width
        self.data = self.put(inputs.cell.task.data())
        self.load(inputs)
        if device.platform == "cpu":
            self.facts |= loop_facts(inputs, mode, self.put)
        wall, cpu = time.perf_counter(), time.process_time()
        self.compile()
        self.facts["compile_seconds"] = time.perf_counter() - wall
        self.facts["compile_cpu_seconds"] = time.process_time() - cpu

    def put(self, tree: Any) -> Any:
        """On the device, with floating-point numbers in the cell's dtype."""
        return placed(tree, self.dtype, self.device)

    def load(self, inputs: Inputs) -> None:
        """Take the inputs of another group of lanes of the same program."""
        self.inputs, self.block_index = inputs, -1
        self.count = len(inputs.cells)
        self.place(inputs.lane_arrays())
        self.first_draws = self.put(inputs.first_draws()) if self.lane.metrics else {}
        self.shared = self.inputs_of(0)

    def place(self, lanes: dict[str, Any]) -> None:
        """Put what differs between lanes on the device."""
        if self.mode == "vmap":
            fill = np.resize(np.arange(self.count), self.width)
            lanes = jax.tree.map(lambda array: array[fill], lanes)
        self.lanes = self.put(lanes)

    def inputs_of(self, t: int) -> dict[str, Any]:
        """The shared inputs of the block that holds step t."""
        index = t // BLOCK
        if index != self.block_index:
            self.block_index = index
            self.shared = {
                **self.put(self.inputs.block(index)),
                "base": self.put(np.int32(index * BLOCK)),
                "data": self.data,
                "first": self.first_draws,
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

    def compile(self) -> None:
        """Lower and compile init, chunk and evaluation ahead of time, each over a flat carry."""
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
        lowered = jax.jit(chunk, donate_argnums=0).lower(first, self.lanes, self.shared, bound, bound)
        self.chunk = lowered.compile()
        self.evaluation = jax.jit(evaluate).lower(first, self.lanes, self.shared).compile()
        self.facts |= memory_facts(self.chunk, carry)

    def start(self) -> None:
        """Make the first carry."""
        self.carry = self.first(self.lanes, self.inputs_of(0))

    def advance(self, start: int, stop: int) -> np.ndarray:
        """Run steps start <= t < stop; the losses are the one thing that crosses to the host."""
        shared = self.inputs_of(start)
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


class StepBackend(JaxBackend):
    """Advances lanes one after the other by single steps, in the mode `loop`; each has a carry of its own."""

    def place(self, lanes: dict[str, Any]) -> None:
        """A row of inputs for each lane; the first parameters apart, since only the first carry needs them."""
        self.firsts = [self.put(jax.tree.map(lambda array, i=i: array[i], lanes)) for i in range(self.count)]
        self.rows = [{name: row[name] for name in row if name != "params"} for row in self.firsts]

    def compile(self) -> None:
        """Lower and compile init, one step and evaluation ahead of time, for any lane."""
        lane, row = self.lane, self.rows[0]
        carry = jax.eval_shape(lane.init, self.firsts[0], self.shared)
        structure = self.structure = jax.tree.structure(carry)
        leaves = jax.tree.leaves(carry)

        def step(carry: list[Any], t: Any, one: Any, shared: Any) -> tuple[list[Any], Any, Any]:
            new, loss = lane.step(structure.unflatten(carry), one, shared, t)
            return jax.tree.leaves(new), t + 1, loss

        def evaluate(carry: list[Any], one: Any, shared: Any) -> dict[str, Any]:
            return lane.evaluate(structure.unflatten(carry), one, shared)

        init = jax.jit(lambda one, shared: jax.tree.leaves(lane.init(one, shared)))
        t = jax.ShapeDtypeStruct((), jnp.int32)
        self.first = init.lower(self.firsts[0], self.shared).compile()
        self.chunk = jax.jit(step, donate_argnums=0).lower(leaves, t, row, self.shared).compile()
        self.evaluation = jax.jit(evaluate).lower(leaves, row, self.shared).compile()
        self.facts |= memory_facts(self.chunk, carry)

    def start(self) -> None:
        """Make each lane's first carry."""
        self.carries = [self.first(first, self.inputs_of(0)) for first in self.firsts]

    def advance(self, start: int, stop: int) -> np.ndarray:
        """Run steps start <= t < stop of each lane; nothing waits before the losses cross to the host."""
        shared, step = self.inputs_of(start), self.chunk
        columns = []
        for i, row in enumerate(self.rows):
            carry, t, losses = self.carries[i], self.number(start), []
            for _ in range(start, stop):
                carry, t, loss = step(carry, t, row, shared)
                losses.append(loss)
            self.carries[i] = carry
            columns.append(losses)
        return np.array(jax.device_get(columns)).T

    def evaluate(self) -> dict[str, np.ndarray]:
        """Every metric, [lanes]."""
        found = [self.evaluation(c, row, self.shared) for c, row in zip(self.carries, self.rows, strict=True)]
        return {name: np.array([np.asarray(each[name]) for each in found]) for name in found[0]}

    def counts(self) -> Counts:
        """Gradients, Hessian-vector products and values so far, [lanes]."""
        each = [self.structure.unflatten(carry)["counts"] for carry in self.carries]
        return Counts(*np.array(jax.device_get(each)).T)

    def save(self) -> list[np.ndarray]:
        """All carries as arrays, lane after lane."""
        return [np.asarray(leaf) for carry in self.carries for leaf in carry]

    def restore(self, leaves: list[np.ndarray]) -> None:
        """Go on from saved carries."""
        size = self.structure.num_leaves
        put = [jax.device_put(leaf, self.device) for leaf in leaves]
        self.carries = [put[i : i + size] for i in range(0, len(put), size)]


BACKENDS = {"map": JaxBackend, "vmap": JaxBackend, "loop": StepBackend}


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
        sizes = (analysis.temp_size_in_bytes, analysis.argument_size_in_bytes, analysis.output_size_in_bytes)
        found["program_bytes"] = sum(sizes) - analysis.alias_size_in_bytes  # a donated carry is both
    return found


def run(
    cells: Sequence[Cell],
    mode: str,
    device: str = "cpu",
    observe: Observe = lambda event, facts: None,
    keep: Callable[[int], Keep | None] = lambda group: None,
    width: int = WIDTH,
    metrics: Sequence[Metric] = (),
) -> list[Trace]:
    """Run cells that share a program; returns their traces in the same order."""
    size = width if mode == "vmap" else len(cells)
    groups = [Inputs.of(cells[i : i + size]) for i in range(0, len(cells), size)]
    traces: list[Trace] = []
    chosen, saves = devices(device)[0], Saves()
    with numbers(cells[0], device), jax.default_device(chosen):
        backend = BACKENDS[mode](groups[0], mode, chosen, width, metrics)
        observe("compiled", backend.facts)
        for number, inputs in enumerate(groups):
            if number:
                backend.load(inputs)
            traces += drive(inputs, backend, observe, keep(number), saves, number == len(groups) - 1)
        peak = peak_facts(cells[0], device, chosen.device_kind, lambda n: product(n, cells[0].dtype))
    for trace in traces:
        trace.facts |= peak
    return traces
